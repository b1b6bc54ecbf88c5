"""What became of many runs: verdicts, numbers and durations by kernel, what flakes, what changed when."""
