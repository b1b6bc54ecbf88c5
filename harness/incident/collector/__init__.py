"""The parts of the program that `harness snapshot` prints, in the Python of 3.6 and without anything to install.

harness.incident.snapshot makes one file of them. Annotations are texts: 3.6 does not look at them.
"""
