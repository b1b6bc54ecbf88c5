"""What a cable does to the frames on it: how long they take, which are lost, how many fit; asked for and validated."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, TypedDict

from harness.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

# In seconds. netem takes a delay as 32 bits of 64 ns, and draws a jitter from 32 bits of twice as many nanoseconds.
LONGEST_DELAY, MOST_JITTER = 100.0, 2.0
# In bits a second; netem takes 32 bits of bytes a second.
SLOWEST, FASTEST = 1000.0, 34e9
# Frames that wait for the rate: as many as fit into a queue of Linux unless told (netem's limit, an interface's too).
QUEUE, LONGEST_QUEUE = 1000, 100_000
# RFC 8200, section 5; the most that a veth takes (drivers/net/veth.c).
LEAST_MTU, MOST_MTU = 1280, 65535
WHOLE = 0xFFFFFFFF
NANOSECONDS = 1_000_000_000

By = Literal["netem", "box"]


class LineWords(TypedDict, total=False):
    """What link(), switch() and gateway() take of a Line."""

    delay: float
    jitter: float
    loss: float
    duplicate: float
    reorder: float
    rate: float | None
    queue: int | None
    seed: int | None
    by: By | None


@dataclass(frozen=True, kw_only=True)
class Line:
    """What a cable does to the frames that arrive by it at each of its hosts; the zero value does nothing.

    `delay` is the seconds that a frame takes each way, and `jitter` how many more or less, each time another number;
    who takes less does not overtake. Of a hundred frames `loss` are lost, `duplicate` come twice, and `reorder` take no
    time and so overtake those before them. `rate` is in bits a second, of frames with their Ethernet header; so many
    frames as `queue` (1000) wait for it, and what finds no room is lost.

    Chance is a function of `seed` and the number of the frame, counted from when the lab is ready: the same seed loses
    the same frames, on any kernel and by any means. Without one a seed is drawn, which Cable.seed and the evidence
    tell. `by` says who does it: "netem", or "box", a process of ours that moves the frames; None: netem, where it can.

    BadInput, where that cannot be.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    rate: float | None = None
    queue: int | None = None
    seed: int | None = None
    by: By | None = None

    def __post_init__(self) -> None:
        _number("delay", self.delay, 0, LONGEST_DELAY, "seconds")
        _number("jitter", self.jitter, 0, MOST_JITTER, "seconds")
        for name in ("loss", "duplicate", "reorder"):
            _number(name, getattr(self, name), 0, 100, "per cent")
        if self.rate is not None:
            _number("rate", self.rate, SLOWEST, FASTEST, "bits a second")
        if self.queue is not None:
            whole("queue", self.queue, 1, LONGEST_QUEUE, "frames")
        if self.seed is not None:
            whole("seed", self.seed, 0, 2**64 - 1)
        if self.by not in (None, "netem", "box"):
            raise BadInput(f'by is "netem" or "box", not {self.by!r}')
        self._agree()

    def _agree(self) -> None:
        if self.jitter > self.delay:
            raise BadInput(
                f"jitter is up to the delay ({self.delay:g} s), not {self.jitter:g} s: no frame arrives before it "
                "was sent"
            )
        if self.reorder and not self.delay:
            raise BadInput("reorder needs a delay: a frame overtakes those that are still under way")
        if self.queue is not None and self.rate is None:
            raise BadInput("queue needs a rate: without one no frame waits")

    @property
    def does_nothing(self) -> bool:
        """Whether frames pass as on any other cable."""
        return not (self.delay or self.is_random or self.rate is not None or self.by)

    @property
    def is_random(self) -> bool:
        """Whether chance decides anything."""
        return bool(self.jitter or self.loss or self.duplicate or self.reorder)

    @property
    def frames_queued(self) -> int:
        """How many frames wait for the rate at most; 0 without a rate."""
        return 0 if self.rate is None else self.queue or QUEUE

    @property
    def bytes_a_second(self) -> int:
        """The rate as netem takes it; 0 without."""
        return 0 if self.rate is None else round(self.rate / 8)


def line_of(words: LineWords) -> Line:
    """A Line from the words of a call; BadInput where a word is none, or means nothing."""
    known = [field.name for field in fields(Line)]
    for word in words:
        if word not in known:
            raise BadInput(f"a cable has no {word!r}, only {', '.join(known)}")
    return Line(**words)


def nanoseconds(seconds: float) -> int:
    """Seconds as a whole number of nanoseconds."""
    return round(seconds * NANOSECONDS)


def share(percent: float) -> int:
    """Per cent as netem takes them: of 2**32 - 1."""
    return round(percent / 100 * WHOLE)


def seeds(seed: int, ports: int) -> list[int]:
    """A seed of 64 bits for each port of a cable: near ones begin alike in the kernel's generator."""
    return [int.from_bytes(hashlib.sha256(f"{seed}/{port}".encode()).digest()[:8], "big") for port in range(ports)]


def check_mtu(mtu: int) -> None:
    """BadInput, if a cable cannot have this MTU, in bytes."""
    whole("mtu", mtu, LEAST_MTU, MOST_MTU, "bytes (IPv6 needs 1280)")


def whole(name: str, value: object, least: int, most: int, unit: str = "") -> None:
    """BadInput, if a value is no whole number within these bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadInput(f"{name} is a whole number from {least} to {most}{unit and ' '}{unit}, not {value!r}")


def _number(name: str, value: object, least: float, most: float, unit: str) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not least <= value <= most:  # type: ignore[operator]
        raise BadInput(f"{name} is a number from {least:g} to {most:g} {unit}, not {value!r}")


def names(hosts: Sequence[str]) -> str:
    """Hosts of a cable in a message."""
    return " - ".join(hosts)
