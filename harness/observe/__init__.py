"""What the kernel says: its counters, sockets, packets, log and reasons for dropping."""

from harness.observe.counters import Counters, Counting, Delta, counters, counting

__all__ = ["Counters", "Counting", "Delta", "counters", "counting"]
