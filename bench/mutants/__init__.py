"""Kernels with one defect each: the proof that the scenarios would notice. `make mutants` writes docs/mutants.md.

A small kernel is built from Debian's linux-source package, and once more for each patch in patches/; the scenarios run
on each in simulated time. A defect that no claim catches is a missing scenario, or a weak one.
"""
