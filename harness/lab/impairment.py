"""What was done to the traffic of a lab: a rule that dropped or held segments, from when to when, and how many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from harness.errors import BadInput
from harness.lab.line import WHOLE, whole

# RFC 9293, section 3.1, and RFC 3168: the bits of the header's fourteenth byte; the letters are scapy's.
FLAG_BITS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "C": 128}
# These make a segment what it is: those that nobody asked for must be absent.
TELLING = "FSR"


class Flags(NamedTuple):
    """TCP flags as people mean them: the bits of `mask` must be those of `value`; `bare`: without a payload.

    "S" is a SYN and not a SYN-ACK, whatever else the SYN offers (ECE, CWR). "F" is a FIN and "R" a reset, which come
    with an ACK or without, a FIN also at the end of data. "A" alone is an acknowledgement that carries nothing. "PA",
    or "P", is data that is pushed. A letter more demands a flag more: "RA" is a reset with an ACK.
    """

    mask: int
    value: int
    bare: bool

    @classmethod
    def of(cls, letters: object) -> Flags:
        """What the letters mean; BadInput for others."""
        if not isinstance(letters, str) or not letters or set(letters) - set(FLAG_BITS):
            raise BadInput(f"TCP flags are letters of {''.join(FLAG_BITS)}, not {letters!r}")
        unwanted = {letter for letter in TELLING if letter not in letters}
        if set(letters) == {"S"}:
            unwanted.add("A")
        value = bits(letters)
        return cls(value | bits("".join(unwanted)), value, set(letters) == {"A"})

    def meet(self, flags: int, payload: int) -> bool:
        """Whether a segment with the bits `flags` and so many bytes of payload is meant."""
        return flags & self.mask == self.value and not (self.bare and payload)


def bits(letters: str) -> int:
    """The bits of the flags that are given as letters; those that have no bit in that byte are left out."""
    return sum(FLAG_BITS.get(letter, 0) for letter in set(letters))


@dataclass(frozen=True)
class SegmentMatch:
    """Which segments a rule means: `Flags` as letters, ports, and the acknowledgement number; None matches any.

    Of the segments that match, those from the `first` (1 is the next) on, `count` of them or all. BadInput for what no
    segment can have.
    """

    flags: str | None = None
    sport: int | None = None
    dport: int | None = None
    ack: int | None = None
    first: int = 1
    count: int | None = None

    def __post_init__(self) -> None:
        if self.flags is not None:
            Flags.of(self.flags)
        whole("first", self.first, 1, WHOLE)
        bounds = {"sport": (0, 0xFFFF), "dport": (0, 0xFFFF), "ack": (0, WHOLE), "count": (1, WHOLE)}
        for name, (least, most) in bounds.items():
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), least, most)


@dataclass(frozen=True)
class Impairment:
    """A rule at a host, "drop" or "hold"; `since` and `until` in seconds since the epoch, None while it lasts.

    `dropped` counts the segments that it took; held ones were let go later.
    """

    kind: str
    host: str
    match: SegmentMatch
    since: float
    until: float | None
    dropped: int


@dataclass(frozen=True)
class Towards:
    """What became of the frames of a cable to a host, from when the lab was ready.

    `passed`, with those that came twice; `lost` by chance; `overflowed`, for which the queue had no room. Of a box of
    ours also `unasked`, those that it lost because it could not keep up, and by how many seconds a frame was `late` at
    most.
    """

    host: str
    passed: int = 0
    lost: int = 0
    overflowed: int = 0
    unasked: int = 0
    late: float | None = None


@dataclass(frozen=True)
class LineUsed:
    """What a cable `between` hosts did to frames, as Line says it, and who did it: `by` netem, or a box of ours.

    `seed` is what chance was drawn from; `drawn`, if the scenario gave none.
    """

    between: tuple[str, ...]
    by: str
    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    rate: float | None = None
    queue: int | None = None
    seed: int | None = None
    drawn: bool = False
    towards: tuple[Towards, ...] = ()
