"""The timestamps option of RFC 7323: written into segments that a scenario sends, read from those that it gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from scapy.layers.inet import TCP

    from harness.traffic.raw import Options


class Stamps(NamedTuple):
    """The two fields of the option: what the sender's clock reads, and the last value that it has got (TSecr)."""

    value: int
    echo: int


def stamp(value: int | None, echo: int = 0) -> Options:
    """The option with its usual padding, modulo 2^32; no option where there is no value."""
    if value is None:
        return []
    return [("NOP", None), ("NOP", None), ("Timestamp", (value % 2**32, echo % 2**32))]


def stamps_of(segment: TCP) -> Stamps | None:
    """The option of a segment that scapy has parsed, or None without one."""
    options: dict[str, tuple[int, int]] = {name: value for name, value in segment.options if name == "Timestamp"}
    return Stamps(*options["Timestamp"]) if options else None
