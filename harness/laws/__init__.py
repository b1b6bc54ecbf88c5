"""What the kernel's rules predict: queues, timers, ports, the take-over of TIME-WAIT; and where the rules changed."""

from harness.laws.boundaries import BOUNDARIES, Boundary, before, boundary, since, uncertain

__all__ = ["BOUNDARIES", "Boundary", "before", "boundary", "since", "uncertain"]
