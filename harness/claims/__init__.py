"""Claims as data, what is expected on which kernel, what a run measured, and the verdict that follows."""
