"""A whole machine for each kernel: the box that Vagrant starts them from, and a run of the scenarios in all of them."""
