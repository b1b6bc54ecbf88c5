"""The matrix to look things up in: claims and numbers by kernel, defaults of sysctls, counters. Made from evidence.

It is a JSON file that the documentation keeps (docs/matrix.json) and `harness matrix` writes; types are in `types`.
"""
