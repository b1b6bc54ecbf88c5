"""A corrected edition of the documents: what they say, heading by heading, with verdict, measurement and since when."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from harness.errors import BadInput
from harness.evidence.codec import read_directory
from harness.evidence.types import NOT_SETTLED, Judgement, PhaseKind, Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from jinja2 import Environment

    from harness.claims.documents import Document
    from harness.evidence.types import Absence, Change, Claim, Expectation, Kernel, Run, Verdict
    from harness.laws.kernel import Release

MEASUREMENTS = 3
LONGEST = 160
OLDEST: Release = (3, 0, 0)


@dataclass(frozen=True)
class Account:
    """What is expected of some kernels, and why: `kernels` is empty where it is expected of all."""

    verdict: str
    kernels: str
    because: str
    change: str
    subject: str


@dataclass(frozen=True)
class Measured:
    """What a verdict rests on, of a phase."""

    phase: str
    judgements: list[Judgement]


@dataclass(frozen=True)
class Entry:
    """A statement under a heading; the `first` time it is told in full."""

    claim: Claim
    first: bool
    verdict: str
    accounts: list[Account]
    measured: list[Measured]
    absence: Absence | None
    unsettled: str


@dataclass(frozen=True)
class Section:
    """A heading with its statements."""

    heading: str
    entries: list[Entry]


@dataclass(frozen=True)
class Chapter:
    """A document with its headings."""

    document: Document
    sections: list[Section]


@dataclass(frozen=True)
class Edition:
    """All documents, as a kernel has them."""

    kernel: Kernel
    chapters: list[Chapter]
    groups: dict[str, Counter[str]]
    total: Counter[str]


def write(claims: Mapping[str, Claim], documents: Mapping[str, Document], evidence: Path) -> str:
    """The edition as Markdown; `evidence` is the directory with the evidence of a run, on one kernel.

    A claim that stands under several headings is told in full under the first. BadInput if there is no evidence.
    """
    edition = _edition(claims, documents, _runs(evidence, claims))
    return _environment().get_template("edition.md.jinja").render(edition=edition).rstrip() + "\n"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("harness.report", "templates"), undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    environment.filters["short"] = _short
    environment.globals["refutes"] = Result.KERNEL
    return environment


def _runs(evidence: Path, claims: Mapping[str, Claim]) -> dict[str, Run]:
    """A run of each claim: the first that came to a verdict, if any did; BadInput for none, or for several kernels."""
    directory = read_directory(evidence)
    if directory.notices:
        raise BadInput(f"{evidence}: {directory.notices[0]}")
    runs: dict[str, Run] = {}
    for file in directory.files:
        if file.claim.name in claims and file.runs:
            runs[file.claim.name] = next((run for run in file.runs if run.verdict), file.runs[0])
    if not any(run.verdict for run in runs.values()):
        raise BadInput(f"{evidence}: no evidence of a settled claim here; run `pytest scenarios/` first")
    kernels = sorted({run.kernel.version for run in runs.values()})
    if len(kernels) > 1:
        raise BadInput(f"{evidence}: evidence of several kernels ({', '.join(kernels)}); an edition is of one")
    return runs


def _edition(claims: Mapping[str, Claim], documents: Mapping[str, Document], runs: Mapping[str, Run]) -> Edition:
    in_full: set[str] = set()
    chapters = []
    for document in documents.values():
        sections = []
        for heading in document.headings:
            under = [claim for claim in claims.values() if _stands(claim, document.id, heading)]
            entries = [_entry(claim, runs.get(claim.name), first=claim.name not in in_full) for claim in under]
            in_full.update(claim.name for claim in under)
            if entries:
                sections.append(Section(heading, entries))
        chapters.append(Chapter(document, sections))
    groups: dict[str, Counter[str]] = {}
    for name, claim in claims.items():
        groups.setdefault(claim.group, Counter())[_verdict(runs.get(name))] += 1
    kernel = next(iter(runs.values())).kernel
    return Edition(kernel, chapters, groups, sum(groups.values(), Counter()))


def _stands(claim: Claim, document: str, heading: str) -> bool:
    return any((source.document, source.heading) == (document, heading) for source in claim.sources)


def _verdict(run: Run | None) -> str:
    return run.verdict.words if run is not None and run.verdict else NOT_SETTLED


def _entry(claim: Claim, run: Run | None, *, first: bool) -> Entry:
    return Entry(
        claim=claim,
        first=first,
        verdict=_verdict(run),
        accounts=_accounts(claim),
        measured=[] if run is None else _measured(run),
        absence=None if run is None else run.absence,
        unsettled=run.reason if run is not None and run.verdict is None else "",
    )


def _accounts(claim: Claim) -> list[Account]:
    """Each account of the kernel with the ranges that it holds for, in the order of the first of them.

    What went to several stable series has a range in each of them.
    """
    alike: dict[tuple[Verdict, str, str, str], list[Expectation]] = {}
    for expectation in claim.expectations:
        change = expectation.change
        commit = (change.commit, change.subject) if change else ("", "")
        alike.setdefault((expectation.verdict, expectation.because, *commit), []).append(expectation)
    alone = len(claim.expectations) == 1 and len(claim.expectations[0].ranges) == 1
    accounts = []
    for (verdict, because, _, subject), expectations in alike.items():
        ranges = sorted(pair for expectation in expectations for pair in expectation.ranges)
        spelled = filter(None, (_range(start, end, alone=alone) for start, end in ranges))
        changes = [expectation.change for expectation in expectations if expectation.change]
        accounts.append(Account(verdict.words, ", ".join(spelled), because, _change(changes), subject))
    return accounts


def _change(changes: list[Change]) -> str:
    """The commit of a change, and each release that it came with."""
    if not changes:
        return ""
    first = changes[0]
    releases = ", ".join(dict.fromkeys(change.release for change in changes))
    releases = f"{first.tool} {releases}" if first.tool else releases
    return f"commit {first.commit} in {releases}" if first.commit else releases


def _range(first: Release, end: Release | None, *, alone: bool) -> str:
    """A range in words; of a claim with one verdict for all kernels, nothing."""
    if end is None:
        return "" if alone else f"since {_release(first)}"
    return f"before {_release(end)}" if first <= OLDEST else f"from {_release(first)} to before {_release(end)}"


def _release(release: Release) -> str:
    return ".".join(map(str, release)).removesuffix(".0")


def _measured(run: Run) -> list[Measured]:
    """The measurements that the verdict rests on, by phase: of each thing measured one, those that refute first."""
    judgements = list(_judgements(run))
    telling = [pair for pair in judgements if pair[1].result is Result.KERNEL] or judgements
    first_of_each: dict[str, tuple[str, Judgement]] = {}
    for title, judgement in telling:
        first_of_each.setdefault(judgement.what, (title, judgement))
    phases: dict[str, list[Judgement]] = {}
    for title, judgement in list(first_of_each.values())[:MEASUREMENTS]:
        phases.setdefault(title, []).append(judgement)
    return [Measured(title, judgements) for title, judgements in phases.items()]


def _judgements(run: Run) -> Iterable[tuple[str, Judgement]]:
    for phase in run.phases:
        if phase.kind is PhaseKind.EFFECT:
            yield from ((phase.title, each) for each in phase.comparisons if isinstance(each, Judgement))


def _short(value: object) -> str:
    """A measured value in a sentence."""
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
