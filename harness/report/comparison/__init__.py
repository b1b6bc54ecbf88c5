"""What differs between two kernels, or between two runs: what changed, the verdicts alone, or everything exactly."""
