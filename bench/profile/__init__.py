"""Where the time of a run goes, by test and by part: `python -m bench.profile`."""
