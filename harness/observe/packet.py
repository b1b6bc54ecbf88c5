"""A frame as the kernel saw it pass."""

from __future__ import annotations

from dataclasses import dataclass

from harness.observe import segments


@dataclass(frozen=True, slots=True, repr=False)
class Packet:
    """One frame: `time_ns` since the epoch by the kernel's clock, `direction` "in" or "out" of the host.

    `length` is that of the whole frame in bytes; `frame` holds what was captured of it.
    """

    time_ns: int
    direction: str
    interface: str
    length: int
    frame: bytes
    ethernet: bool

    def __repr__(self) -> str:
        segment = self.segment()
        said = f"{self.length} bytes" if segment is None else segment.line()
        return f"<{self.direction} {self.interface}: {said}>"

    def segment(self) -> segments.Segment | None:
        """The TCP segment in it, if there is one."""
        return segments.parse(
            self.frame,
            ethernet=self.ethernet,
            time=self.time_ns / 1e9,
            direction=self.direction,
            interface=self.interface,
        )
