"""Every claim over all kernels at hand: which boundaries the evidence confirms, which it contradicts.

A boundary is confirmed where something comes out as expected on both of its sides, and not the same: the verdict of a
claim, or, of a test that asked for the boundary, a measurement. It counts only if no other boundary that the claim or
the test knows of lies between the two kernels. It is contradicted where a claim has, on one side, the verdict of the
other.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import product
from typing import TYPE_CHECKING

import msgspec

from harness.evidence.differences import differences
from harness.evidence.types import Outcome
from harness.laws.boundaries import BOUNDARIES, Boundary
from harness.laws.kernel import KernelVersion, age
from harness.laws.known import How, how_known

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from harness.evidence.types import Claim, Expectation, Run
    from harness.laws.kernel import Release

# What is older than every point release of a series.
LAST = 1 << 16


class Standing(StrEnum):
    """What the evidence says of a boundary."""

    CONFIRMED = "confirmed"
    CONTRADICTED = "contradicted"
    BEYOND = "beyond"
    UNTOLD = "untold"


class Sighting(msgspec.Struct, frozen=True):
    """A claim, or a test of it, that came out otherwise on two kernels, as it should: what it said on each."""

    by: str
    before: str
    after: str
    said: tuple[str, str]


class Contradiction(msgspec.Struct, frozen=True):
    """A claim that has on a kernel the verdict of the boundary's other side."""

    claim: str
    kernel: str
    expected: str
    seen: str


class Finding(msgspec.Struct, frozen=True):
    """What is known of a boundary: of the sightings the nearest kernels first; `at_hand` are the kernels on each side.

    `table` are the kernels that the table of boundaries names.
    """

    name: str
    release: str
    standing: Standing
    sightings: tuple[Sighting, ...]
    contradictions: tuple[Contradiction, ...]
    at_hand: tuple[tuple[str, ...], tuple[str, ...]]
    table: tuple[str, str] | None

    @property
    def between(self) -> tuple[str, str] | None:
        """The nearest two kernels between which it was seen."""
        return (self.sightings[0].before, self.sightings[0].after) if self.sightings else None


class Unexpected(msgspec.Struct, frozen=True):
    """A claim that did not come out as expected on a kernel."""

    claim: str
    kernel: str
    expected: str
    seen: str


class Walk(msgspec.Struct, frozen=True):
    """All that was found: boundaries in the order of the table, and what did not come out as expected, of any claim."""

    kernels: tuple[str, ...]
    findings: tuple[Finding, ...]
    unexpected: tuple[Unexpected, ...]

    def of(self, standing: Standing) -> list[Finding]:
        """The boundaries of which the evidence says so."""
        return [finding for finding in self.findings if finding.standing is standing]


class _Evidence:
    """Runs of claims, by claim and kernel."""

    def __init__(self, claims: Mapping[str, Claim], runs: Iterable[tuple[str, Run]], at_hand: Iterable[str]) -> None:
        self.claims = claims
        cells: dict[str, dict[KernelVersion, list[Run]]] = {}
        kernels = {KernelVersion.parse(version) for version in at_hand}
        for name, run in sorted(runs, key=lambda each: (age(each[1].kernel.version), each[1].when, each[1].nodeid)):
            kernel = KernelVersion.parse(run.kernel.version)
            kernels.add(kernel)
            if name in claims:
                cells.setdefault(name, {}).setdefault(kernel, []).append(run)
        self.kernels = sorted(kernels)
        self.cells = {
            name: {kernel: cells[name][kernel] for kernel in self.kernels if kernel in cells[name]}
            for name in sorted(cells)
        }

    def distance(self, sighting: Sighting) -> int:
        """How many kernels at hand lie between the two."""
        places = [self.kernels.index(KernelVersion.parse(kernel)) for kernel in (sighting.before, sighting.after)]
        return abs(places[1] - places[0])


def walk(claims: Mapping[str, Claim], runs: Iterable[tuple[str, Run]], at_hand: Iterable[str] = ()) -> Walk:
    """What the runs of claims, each with the claim's name, say of every boundary of the kernel's.

    `at_hand` are versions of kernels of which there may be no evidence.
    """
    evidence = _Evidence(claims, runs, at_hand)
    entries = [entry for entry in BOUNDARIES.values() if how_known(entry).how in (How.MEASURED, How.READ)]
    findings = tuple(_finding(entry, evidence) for entry in entries)
    return Walk(tuple(map(str, evidence.kernels)), findings, tuple(_unexpected(evidence)))


def _finding(entry: Boundary, evidence: _Evidence) -> Finding:
    sightings = [*_verdicts(entry, evidence), *_measurements(entry, evidence)]
    contradictions = tuple(_contradictions(entry, evidence))
    sides = [[kernel for kernel in evidence.kernels if entry.holds_on(kernel) is side] for side in (False, True)]
    if contradictions:
        standing = Standing.CONTRADICTED
    elif sightings:
        standing = Standing.CONFIRMED
    else:
        standing = Standing.UNTOLD if all(sides) else Standing.BEYOND
    nearest = tuple(sorted(sightings, key=evidence.distance))
    before, after = (tuple(map(str, side)) for side in sides)
    return Finding(entry.name, entry.release, standing, nearest, contradictions, (before, after), entry.seen)


# Verdicts.


def flips(claim: Claim, entry: Boundary) -> tuple[Expectation, Expectation] | None:
    """What a claim expects on both sides of a boundary, if its verdict changes there, and because of that."""
    first = entry.ranges[-1][0]
    old, new = claim.expected_on(_just_before(first)), claim.expected_on(KernelVersion(first))
    if old is None or new is None or old.verdict is new.verdict or new.change is None:
        return None
    return (old, new) if new.change.boundary == entry.name else None


def _just_before(release: Release) -> KernelVersion:
    """The last release before one."""
    major, minor, patch = release
    if patch:
        return KernelVersion((major, minor, patch - 1))
    return KernelVersion((major, minor - 1, LAST) if minor else (major - 1, LAST, LAST))


def _verdicts(entry: Boundary, evidence: _Evidence) -> Iterator[Sighting]:
    """The claims whose verdict is another on the other side, as expected, between the nearest two kernels each."""
    for name, cells in evidence.cells.items():
        flip = flips(evidence.claims[name], entry)
        if flip is None:
            continue
        sides = [
            [kernel for kernel, runs in cells.items() if wanted.covers(kernel) and _came_out(runs, str(wanted.verdict))]
            for wanted in flip
        ]
        said = (flip[0].verdict.words, flip[1].verdict.words)
        pairs = [Sighting(name, str(old), str(new), said) for old, new in product(*sides)]
        yield from sorted(pairs, key=evidence.distance)[:1]


def _contradictions(entry: Boundary, evidence: _Evidence) -> Iterator[Contradiction]:
    for name, cells in evidence.cells.items():
        flip = flips(evidence.claims[name], entry)
        if flip is None:
            continue
        for wanted, other in (flip, flip[::-1]):
            for kernel, runs in cells.items():
                if wanted.covers(kernel) and other.verdict in {run.verdict for run in runs}:
                    yield Contradiction(name, str(kernel), wanted.verdict.words, other.verdict.words)


def _came_out(runs: Collection[Run], verdict: str) -> bool:
    """Whether runs of a claim have this verdict and nothing else; those that could not be made do not count."""
    settled = [run for run in runs if run.outcome is not Outcome.UNSETTLED]
    return bool(settled) and all(
        run.outcome in (Outcome.EXPECTED, Outcome.UNEXPECTED) and run.verdict == verdict for run in settled
    )


# Measurements.


def _measurements(entry: Boundary, evidence: _Evidence) -> Iterator[Sighting]:
    """The tests that asked for the boundary and measured something else on its other side, as expected on both."""
    for name, cells in evidence.cells.items():
        tests: dict[str, dict[KernelVersion, list[Run]]] = {}
        for kernel, runs in cells.items():
            for run in runs:
                if run.outcome is Outcome.EXPECTED and entry.name in run.asked:
                    tests.setdefault(run.test, {}).setdefault(kernel, []).append(run)
        for test, by_kernel in tests.items():
            seen = _nearest_difference(entry, by_kernel, f"{name} ({test.rpartition('::')[2]})", evidence)
            if seen is not None:
                yield seen
                break


def _nearest_difference(
    entry: Boundary, runs: Mapping[KernelVersion, Sequence[Run]], by: str, evidence: _Evidence
) -> Sighting | None:
    """The nearest two kernels with a difference between which a test asked for this boundary alone.

    Where a kernel has several runs of the test, each of them has to differ.
    """
    pairs = [
        (Sighting(by, str(old), str(new), ("", "")), runs[old], runs[new])
        for old, new in product(runs, runs)
        if _lies_between([*runs[old], *runs[new]], old, new) == {entry.name} and entry.holds_on(new)
    ]
    for sighting, before, after in sorted(pairs, key=lambda pair: evidence.distance(pair[0])):
        said = [_difference(*pair) for pair in product(before, after)]
        if said[-1] is not None and all(said):
            return msgspec.structs.replace(sighting, said=said[-1])
    return None


def _difference(before: Run, after: Run) -> tuple[str, str] | None:
    """What two runs of a test measured otherwise, on each side; None if nothing."""
    for difference in differences(before, after):
        if difference.changed and difference.before is not None and difference.after is not None:
            what = difference.what
            return f"{what} {difference.before.measured}", f"{what} {difference.after.measured}"
    return None


def _lies_between(runs: Iterable[Run], old: KernelVersion, new: KernelVersion) -> set[str]:
    """The boundaries that one of these runs asked for and that have both kernels on different sides."""
    asked = {name for run in runs for name in run.asked}
    known = (BOUNDARIES[name] for name in asked if name in BOUNDARIES)
    return {entry.name for entry in known if entry.holds_on(old) is not entry.holds_on(new)}


# Whatever else is not as it should be.


def _unexpected(evidence: _Evidence) -> Iterator[Unexpected]:
    for name, cells in sorted(evidence.cells.items()):
        for kernel, runs in sorted(cells.items()):
            expected = evidence.claims[name].expected_on(kernel)
            wanted = expected.verdict.words if expected is not None else "nothing"
            said = {
                run.verdict.words if run.verdict else run.said for run in runs if run.outcome is not Outcome.UNSETTLED
            }
            if said and said != {wanted}:
                yield Unexpected(name, str(kernel), wanted, " and ".join(sorted(said)))
