"""What the kernel's rules predict: queues, timers, ports, the take-over of TIME-WAIT; and where the rules changed."""

from harness.laws.boundaries import BOUNDARIES, Boundary, before, boundary, since, uncertain
from harness.laws.known import How, Knowledge, how_known

__all__ = ["BOUNDARIES", "Boundary", "How", "Knowledge", "before", "boundary", "how_known", "since", "uncertain"]
