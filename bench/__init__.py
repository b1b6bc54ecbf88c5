"""Side-by-side measurements against what a user would take instead; `make bench` prints the table of the README."""
