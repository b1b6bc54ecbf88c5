"""A test harness that settles claims about Linux TCP on real kernels."""
