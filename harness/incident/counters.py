"""Counters as samples with their times, and the rates that two of them give."""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from harness.incident.facts import Basis, Fact, Moment, Source, Unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Two samples nearer than this, in seconds, give no rate. The times of files are whole seconds.
NEAREST = {Basis.SAID: 0.2, Basis.FILE: 2.0}


class LeftOut(StrEnum):
    """What it means that a counter does not stand in a sample.

    Nothing is left out: the kernel has no such counter. Zeros are (`netstat -s`, `nstat`): it is 0, or the kernel has
    none. A choice was made (node_exporter, grep): nothing is known of it.
    """

    NOTHING = "nothing"
    ZEROS = "zeros"
    SOME = "some"


class Sample(msgspec.Struct, frozen=True, omit_defaults=True):
    """Numbers of one namespace at one moment, by group and name: "TcpExt.ListenOverflows", "sockstat.TCP.tw".

    `groups` are those that the sample speaks of: a "TcpExt" without the counter is something else than no "TcpExt".
    """

    source: Source
    numbers: dict[str, Fact[int]]
    groups: tuple[str, ...]
    left_out: LeftOut
    taken: Moment | None = None

    def of(self, name: str) -> Fact[int] | Unknown:
        """A number by its name; 0 where the output leaves zeros out, with the sample itself as source."""
        if name in self.numbers:
            return self.numbers[name]
        if name.partition(".")[0] not in self.groups:
            return Unknown(f"{self.source.file} does not have it")
        if self.left_out is LeftOut.ZEROS:
            return Fact(0, self.source)
        if self.left_out is LeftOut.NOTHING:
            return Unknown("the kernel has no such counter")
        return Unknown(f"{self.source.file} has a choice of counters, without this one")


class Rate(msgspec.Struct, frozen=True):
    """How far a counter moved in how many seconds, between two samples or since boot.

    With `by_files` the times are those of the files, which a copy may have changed.
    """

    counter: str
    amount: int
    seconds: float
    sources: tuple[Source, ...]
    since_boot: bool = False
    by_files: bool = False

    @property
    def per_second(self) -> float:
        """The rate itself."""
        return self.amount / self.seconds

    def __str__(self) -> str:
        how = "since boot, an average" if self.since_boot else f"{self.amount} in {self.seconds:.1f} s"
        how += ", by the times of the files" if self.by_files else ""
        return f"{self.per_second:.3g} a second ({how})"


def latest(samples: Iterable[Sample], name: str) -> Fact[int] | Unknown:
    """The number in the last sample that has it; samples without a time come before those with one."""
    found: Fact[int] | Unknown = Unknown()
    for sample in in_order(samples):
        value = sample.of(name)
        if isinstance(value, Fact) or isinstance(found, Unknown):
            found = value
    return found


def in_order(samples: Iterable[Sample]) -> list[Sample]:
    """Samples by their times, and by their files where these are alike."""

    def place(sample: Sample) -> tuple[float, str, int]:
        return sample.taken.epoch if sample.taken else float("-inf"), sample.source.file, sample.source.line

    return sorted(samples, key=place)


def rate(samples: Sequence[Sample], name: str) -> Rate | Unknown:
    """How fast a counter rises, by the earliest and the latest sample that have it.

    Unknown where there are no two with times, where they are too near, or where the counter fell: then the machine
    has booted between them, or they are of two machines.
    """
    timed = [(sample.taken, value) for sample in in_order(samples) if (value := _timed(sample, name)) and sample.taken]
    # Of one second, as files have it, that with less was taken first: counters only rise.
    timed.sort(key=lambda pair: (pair[0].epoch, pair[1].value))
    if len(timed) < 2:
        return Unknown(_no_rate(samples, name))
    (began, first), (ended, last) = timed[0], timed[-1]
    seconds = ended.epoch - began.epoch
    nearest = max(NEAREST[began.basis], NEAREST[ended.basis])
    if seconds < nearest:
        return Unknown(f"the samples are {seconds:.1f} s apart, too near for a rate")
    if any(after.value < before.value for (_, before), (_, after) in pairwise(timed)):
        return Unknown(f"it fell from {first.value} to {last.value}: booted between the samples, or two machines")
    by_files = Basis.FILE in (began.basis, ended.basis)
    return Rate(name, last.value - first.value, seconds, (first.source, last.source), by_files=by_files)


def _timed(sample: Sample, name: str) -> Fact[int] | None:
    """A number of a sample that has a time."""
    value = sample.of(name)
    return value if sample.taken and isinstance(value, Fact) else None


def _no_rate(samples: Sequence[Sample], name: str) -> str:
    """Why there are no two samples to compare."""
    having = [sample for sample in samples if isinstance(sample.of(name), Fact)]
    if not having:
        return "no file has it"
    return "there is one sample only" if len(having) == 1 else "nothing says when the samples were taken"
