"""Kernels that complain when a socket says so: the proof that a complaint fails its test, and no other."""
