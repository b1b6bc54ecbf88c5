"""Since when something is so: the expectations of a claim by account, each with its kernels and what made it so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.laws.boundaries import BOUNDARIES
from harness.laws.known import How, Knowledge, how_known
from harness.laws.releases import join, within
from harness.report.edition.model import Account, Range
from harness.report.edition.prose import exists

if TYPE_CHECKING:
    from harness.evidence.types import Change, Claim, Expectation
    from harness.laws.kernel import KernelVersion, Release

# Where a range begins that is open: no claim is expected to say what older kernels do.
OPEN: tuple[Release, ...] = ((0, 0, 0), (3, 0, 0))
# The first commit of the kernel's history: what it has was so before.
FIRST_COMMIT = "1da177e4c3f4"


def accounts_of(claim: Claim) -> tuple[Account, ...]:
    """Each account of the kernel with the ranges that it holds for, in the order of the first of them.

    What went to several stable series has a range in each of them.
    """
    alike: dict[tuple[str, ...], list[Expectation]] = {}
    for each in claim.expectations:
        commit = (each.change.commit, each.change.subject) if each.change else ("", "")
        alike.setdefault((each.verdict, each.because, *commit), []).append(each)
    alone = len(claim.expectations) == 1 and len(claim.expectations[0].ranges) == 1
    return tuple(_account(expectations, alone=alone) for expectations in alike.values())


def since_of(claim: Claim, kernel: KernelVersion, verdict: str) -> Range | None:
    """The kernels around one that have its verdict; None if every kernel has it, or if another was expected."""
    here = claim.expected_on(kernel)
    if len({each.verdict for each in claim.expectations}) < 2 or here is None or here.verdict.words != verdict:
        return None
    alike = join(pair for each in claim.expectations if each.verdict is here.verdict for pair in each.ranges)
    first, last = next(pair for pair in alike if within(kernel, (pair,)))
    return _range(first, last) if first not in OPEN or last else None


def _account(expectations: list[Expectation], *, alone: bool) -> Account:
    first = expectations[0]
    changes = [each.change for each in expectations if each.change]
    ranges = sorted(pair for each in expectations for pair in each.ranges)
    spelled = tuple(filter(exists, (_range(start, end) for start, end in ranges if not (alone and end is None))))
    return Account(
        verdict=first.verdict.words,
        ranges=spelled,
        because=first.because,
        commit=changes[0].commit if changes else "",
        releases=_releases(changes),
        subject=changes[0].subject if changes else "",
        known=_known(changes),
        always=bool(changes) and changes[0].commit == FIRST_COMMIT,
        tool=bool(changes) and bool(changes[0].tool),
    )


def _releases(changes: list[Change]) -> str:
    """Each release that a change came with; a program's has its name before it."""
    if not changes:
        return ""
    releases = ", ".join(dict.fromkeys(release for change in changes for release in change.release.split(", ")))
    return f"{changes[0].tool} {releases}" if changes[0].tool else releases


def _known(changes: list[Change]) -> Knowledge:
    """How a change is known; one that is not in the table of boundaries was read."""
    named = BOUNDARIES.get(changes[0].boundary) if changes else None
    return how_known(named) if named else Knowledge(How.READ)


def _range(first: Release, end: Release | None) -> Range:
    return Range("" if first in OPEN else _release(first), "" if end is None else _release(end))


def _release(release: Release) -> str:
    return ".".join(map(str, release)).removesuffix(".0")
