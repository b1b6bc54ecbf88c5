"""The edition is built: claims under the headings of their documents, with what was measured, and the corrections."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.claims.corrections import NOTHING, OURS, Correction
from harness.evidence.types import NOT_SETTLED
from harness.laws.kernel import KernelVersion, age
from harness.report.edition.measured import measured_by, verdict_of, verdicts_by_kernel
from harness.report.edition.model import Chapter, Edition, Entry, Measured, Section
from harness.report.edition.places import Place, line_of, lines_under
from harness.report.edition.prose import tell
from harness.report.edition.since import accounts_of, since_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.claims.documents import Document
    from harness.claims.register import Register
    from harness.evidence.types import Claim, Kernel, Run
    from harness.report.edition.measured import Runs


@dataclass(frozen=True)
class Sources:
    """What an edition is made from, beside evidence: the claims, where they stand, and the texts."""

    claims: Mapping[str, Claim]
    documents: Mapping[str, Document]
    register: Register | None
    corrections: Mapping[str, Correction]


@dataclass(frozen=True)
class _Builder:
    """What every chapter is built from."""

    sources: Sources
    kernel: Kernel
    runs: Runs
    places: Mapping[str, list[Place]]


def build(sources: Sources, kernel: Kernel, runs: Runs) -> Edition:
    """The edition of a kernel; what other kernels measured is told beside it."""
    builder = _Builder(sources, kernel, runs, _places(sources))
    chapters = tuple(_chapter(builder, document) for document in sources.documents.values())
    others = {version for of_claim in runs.values() for version in of_claim} - {kernel.version}
    total: Counter[str] = Counter()
    for chapter in chapters:
        total += chapter.counts
    return Edition(kernel, tuple(sorted(others, key=age)), chapters, total)


def _places(sources: Sources) -> dict[str, list[Place]]:
    """Where each claim stands, in reading order: by its sources, and by the register."""
    found: dict[str, list[Place]] = {}
    for document in sources.documents.values():
        for heading in document.headings:
            here = lines_under(sources.register, document.id, heading)
            for name, claim in sources.claims.items():
                lines = tuple(line for line in here if line.claim == name)
                if lines or any((each.document, each.heading) == (document.id, heading) for each in claim.sources):
                    found.setdefault(name, []).append(Place(document.id, heading, lines))
    return found


def _chapter(builder: _Builder, document: Document) -> Chapter:
    sections = tuple(
        _section(builder, document, heading, english)
        for heading, english in zip(document.headings, document.in_english, strict=True)
    )
    return Chapter(document, document.id == OURS, sections)


def _section(builder: _Builder, document: Document, heading: str, english: str) -> Section:
    register = builder.sources.register
    lines = lines_under(register, document.id, heading)
    order = {line.claim: number for number, line in reversed(list(enumerate(lines)))}
    under = [
        (name, number)
        for name, places in builder.places.items()
        for number, place in enumerate(places)
        if (place.document, place.heading) == (document.id, heading)
    ]
    under.sort(key=lambda each: order.get(each[0], len(lines)))
    entries = tuple(_entry(builder, name, number) for name, number in under)
    unjudged = tuple(line for line in lines if not line.claim)
    return Section(heading, english, line_of(register, document.id, heading), entries, unjudged)


def _entry(builder: _Builder, name: str, number: int) -> Entry:
    """A claim at one of its places."""
    claim, places = builder.sources.claims[name], builder.places[name]
    runs = builder.runs.get(name, {})
    runs = {version: runs[version] for version in sorted(runs, key=age)}
    here = runs.get(builder.kernel.version, [])
    return Entry(
        claim=claim,
        place=places[number],
        first=number == 0,
        elsewhere=tuple(places[1:]),
        verdict=verdict_of(here),
        by_kernel=verdicts_by_kernel(runs),
        accounts=accounts_of(claim),
        measured=measured_by(here, "") or _measured_elsewhere(runs),
        why_not=_why_not(here),
        now=since_of(claim, KernelVersion.parse(builder.kernel.version), verdict_of(here)),
        correction=builder.sources.corrections.get(name, NOTHING),
    )


def _measured_elsewhere(runs: Mapping[str, list[Run]]) -> Measured | None:
    """What the newest other kernel measured, where this one measured nothing."""
    settled = ((version, [run for run in runs[version] if run.verdict]) for version in reversed(list(runs)))
    found = (measured_by(of_it, version) for version, of_it in settled)
    return next(filter(None, found), None)


def _why_not(runs: list[Run]) -> str:
    """Why a claim is not applicable, or was not settled."""
    if verdict_of(runs) == NOT_SETTLED:
        return next((run.reason for run in runs if run.reason), "no run of it is in the evidence")
    absence = next((run.absence for run in runs if run.absence), None)
    return f"{absence.why}: {tell(absence.shown)}" if absence else ""
