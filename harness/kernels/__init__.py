"""Other kernels: where they come from, the machines they run in, and the pytest workers inside those."""
