"""What was measured, as types: the same from the experiment to the page."""

from harness.evidence.kinds import address, drawn, output, port, seconds, size, state, ticks

__all__ = ["address", "drawn", "output", "port", "seconds", "size", "state", "ticks"]
