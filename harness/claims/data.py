"""Claims in the form that the record of a run has; harness.claims.files reads them as the types of the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.claims import files
from harness.errors import BadInput, ClaimError
from harness.evidence.types import Verdict
from harness.laws.releases import Ranges, parse, within

if TYPE_CHECKING:
    from pathlib import Path

    from harness.evidence import types
    from harness.laws.kernel import KernelVersion

__all__ = ["Boundary", "Claim", "Expectation", "Source", "Verdict", "covers", "find", "load"]


@dataclass(frozen=True)
class Source:
    """Where a claim stands: a document by the first digits of its name, and the heading above the words."""

    document: str
    heading: str


@dataclass(frozen=True)
class Boundary:
    """The commit that made an expectation true: its hash, its subject, and the first release that has it.

    It is the kernel's, or that of a `tool`, whose commit and subject can be empty.
    """

    commit: str
    subject: str
    release: str
    tool: str | None = None

    def __str__(self) -> str:
        release = f"{self.tool} {self.release}" if self.tool else self.release
        return f"commit {self.commit} in {release}" if self.commit else release


@dataclass(frozen=True)
class Expectation:
    """A verdict for some kernels, the reason, and the commit that made it so."""

    kernels: str
    ranges: Ranges
    verdict: Verdict
    because: str
    boundary: Boundary | None = None

    def covers(self, kernel: KernelVersion) -> bool:
        """Whether the kernel is in one of the ranges."""
        return within(kernel, self.ranges)


@dataclass(frozen=True)
class Claim:
    """One statement of a document about what Linux does."""

    group: str
    id: str
    statement: str
    sources: tuple[Source, ...]
    expectations: tuple[Expectation, ...]

    @property
    def name(self) -> str:
        """Group and id: accept-queue.capacity."""
        return f"{self.group}.{self.id}"

    def expected_on(self, kernel: KernelVersion) -> Expectation | None:
        """What is expected on a kernel; None for one older than every range."""
        return next((expected for expected in self.expectations if expected.covers(kernel)), None)


def load(path: str | Path) -> dict[str, Claim]:
    """The claims of a file, or of every *.toml in a directory, by full name; ClaimError for whatever is malformed."""
    return {name: _of_a_run(claim) for name, claim in files.load(path).items()}


def find(name: str, claims: dict[str, Claim]) -> Claim:
    """The claim of that name; ClaimError, with the nearest names, if there is none."""
    return files.find(name, claims)


def covers(kernels: str, kernel: KernelVersion) -> bool:
    """Whether a kernel is in ranges as claim files and evidence write them; ClaimError if they are none."""
    try:
        return within(kernel, parse(kernels))
    except BadInput as error:
        raise ClaimError(f"a range of kernels: {error}") from None


def _of_a_run(claim: types.Claim) -> Claim:
    expectations = tuple(_expectation(expected) for expected in claim.expectations)
    sources = tuple(Source(source.document, source.heading) for source in claim.sources)
    return Claim(claim.group, claim.id, claim.statement, sources, expectations)


def _expectation(expected: types.Expectation) -> Expectation:
    change = expected.change
    boundary = Boundary(change.commit, change.subject, change.release, change.tool or None) if change else None
    return Expectation(expected.kernels, expected.ranges, expected.verdict, expected.because, boundary)
