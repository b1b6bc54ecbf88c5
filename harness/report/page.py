"""The report: one HTML file with the matrix of claims and kernels, and a part for each claim; it needs nothing else.

What stands behind a cell (phases, counters, diagrams) is much, and mostly not looked at: it is kept deflated in the
page and unfolded when a reader opens it.
"""

from __future__ import annotations

import base64
import hashlib
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from harness.claims.corrections import NOTHING
from harness.evidence.types import NOT_SETTLED, SAID, WRONG
from harness.laws import BOUNDARIES, how_known
from harness.laws.kernel import KernelVersion
from harness.report import tables
from harness.report.cells import cell_view, failure_view
from harness.report.edition import prose
from harness.report.edition.page import corrected_documents, marked
from harness.report.lines import told

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jinja2 import Environment

    from harness.claims.corrections import Correction
    from harness.claims.documents import Document
    from harness.evidence.types import Claim, Expectation
    from harness.report.edition.model import Chapter, Edition
    from harness.report.edition.page import Texts
    from harness.report.table import Cell, Column, Row, Table

# A shape for each, so that nobody needs to tell the colours apart.
GLYPHS = {"holds": "✓", "refuted": "✗", "not applicable": "–", NOT_SETTLED: "?", **dict.fromkeys(WRONG, "‼")}


@dataclass(frozen=True)
class ColumnView:
    """A kernel as it stands above its column."""

    index: int
    column: Column


@dataclass(frozen=True)
class ExpectationView:
    """What is expected of some kernels, and the cells of this report that it is about."""

    expectation: Expectation
    here: list[tuple[Column, Cell]]


@dataclass(frozen=True)
class RowView:
    """A claim as it stands in the matrix.

    `said` has an empty text for a kernel that it was not run on. `first` is the kernel whose part opens first, `text`
    what the filter looks through.
    """

    index: int
    claim: Claim
    documents: str
    said: list[str]
    text: str
    expectations: list[ExpectationView]
    first: int

    @property
    def group(self) -> str:
        """Of the claim."""
        return self.claim.group


@dataclass(frozen=True)
class Finding:
    """A cell that is not as expected."""

    claim: Claim
    column: Column
    cell: Cell
    place: str


@dataclass(frozen=True)
class Page:
    """All that the template shows."""

    table: Table
    title: str
    when: str
    rows: list[RowView]
    columns: list[ColumnView]
    said: list[str]
    counts: Counter[str]
    findings: list[Finding]
    documents: list[tuple[str, str]]
    packed: list[tuple[str, str]]
    chapters: tuple[Chapter, ...] = ()

    @property
    def groups(self) -> list[str]:
        """The claims' groups."""
        return list(dict.fromkeys(row.group for row in self.rows))


def render(table: Table, documents: Mapping[str, Document] | None = None, texts: Texts | None = None) -> str:
    """The whole page.

    `documents` give the titles for the filter, where they are known, and with `texts` they are there corrected.
    """
    environment = templates()
    corrected = corrected_documents(table, documents, texts) if documents and texts else None
    rows = [_row(index, row, table) for index, row in enumerate(table.rows)]
    columns = [ColumnView(index, column) for index, column in enumerate(table.columns)]
    counts = Counter(cell.said for _, _, cell in table.cells())
    page = Page(
        table=table,
        title=_title(table),
        when=_when(table),
        rows=rows,
        columns=columns,
        said=[said for said in SAID if counts[said]],
        counts=counts,
        findings=list(_findings(table)),
        documents=_documents(table, documents or {}),
        packed=[
            *_packed_claims(rows, columns, environment, texts.corrections if texts else {}),
            *_packed_cells(table, environment),
            *_packed_failures(table, environment),
            *_packed_chapters(corrected, rows, environment),
        ],
        chapters=corrected.chapters if corrected else (),
    )
    return environment.get_template("report.html.jinja").render(page=page)


@cache
def templates() -> Environment:
    """The templates, with what they may call."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("harness.report", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"anchor": anchor, "slug": slug, "seconds": _seconds, "spelled": tables.spelled}
    environment.filters |= {
        "sentence": prose.sentence,
        "when": prose.when,
        "marked": marked,
        "in_words": prose.in_words,
        "known": known,
        "how": prose.known,
        "told": told,
    }
    environment.globals |= {
        "glyphs": GLYPHS,
        "judged": tables.JUDGED,
        "wrong": WRONG,
        "tables": tables,
        "style": _asset("report.css"),
        "script": _asset("report.js"),
        "script_hash": base64.b64encode(hashlib.sha256(_asset("report.js").encode()).digest()).decode(),
    }
    return environment


def _asset(name: str) -> str:
    return (resources.files("harness.report") / "templates" / name).read_text(encoding="utf-8")


def known(boundary: str) -> str:
    """A boundary by its name, and how it is known; of one that the table has no more, its name."""
    return f"{boundary}, {how_known(boundary)}" if boundary in BOUNDARIES else boundary


def slug(said: str) -> str:
    """What is said of a run as the name of a class."""
    return said.replace(" ", "-")


def anchor(claim: str) -> str:
    """Where a claim's part is."""
    return f"claim-{claim}"


def _seconds(duration: float) -> str:
    return f"{duration * 1e3:.0f} ms" if duration < 1 else f"{duration:.1f} s"


def _title(table: Table) -> str:
    versions = list(dict.fromkeys(column.kernel.version for column in table.columns))
    many = f"{len(table.rows)} claim{'s' * (len(table.rows) != 1)} about TCP"
    if not table.rows and table.failures:
        versions = list(dict.fromkeys(column.kernel.version for column in table.kernels))
        many = "Failed tests"
    if len(versions) > 4:
        return f"{many} on {len(versions)} Linux kernels, {versions[0]} to {versions[-1]}"
    return f"{many} on Linux {', '.join(versions)}"


def _when(table: Table) -> str:
    stamps = [entry.run.started for _, _, cell in table.cells() for entry in cell.entries]
    known = [stamp for stamp in stamps if 0 < stamp < 1 << 33]
    if not known:
        return ""
    first, last = (time.strftime("%Y-%m-%d %H:%M", time.gmtime(stamp)) for stamp in (min(known), max(known)))
    return f"{first} UTC" if first == last else f"{first} to {last} UTC"


def _documents(table: Table, known: Mapping[str, Document]) -> list[tuple[str, str]]:
    idents = {source.document for row in table.rows for source in row.claim.sources}
    return [(ident, f"{ident} {known[ident].title}" if ident in known else ident) for ident in sorted(idents)]


def _findings(table: Table) -> Iterator[Finding]:
    for number, row in enumerate(table.rows):
        for column, cell in row.cells.items():
            if cell.is_wrong:
                yield Finding(row.claim, column, cell, f"{number}-{table.columns.index(column)}")


def _row(index: int, row: Row, table: Table) -> RowView:
    claim = row.claim
    said = [row.cells[column].said if column in row.cells else "" for column in table.columns]
    words = [claim.name, claim.statement, *(source.heading for source in claim.sources)]
    for expectation in claim.expectations:
        change = expectation.change
        words += [expectation.because, *((change.boundary, change.commit) if change else ())]
    return RowView(
        index=index,
        claim=claim,
        documents=" ".join(sorted({source.document for source in claim.sources})),
        said=said,
        text=" ".join(words).lower(),
        expectations=[_expectation(expectation, row) for expectation in claim.expectations],
        first=_first_to_show(said),
    )


def _first_to_show(said: list[str]) -> int:
    """Which kernel's part opens first: the loudest, and of those the newest."""
    loudness = {word: place for place, word in enumerate(WRONG)}
    known = [(loudness.get(word, len(WRONG)), -index) for index, word in enumerate(said) if word]
    return -min(known)[1] if known else 0


def _expectation(expectation: Expectation, row: Row) -> ExpectationView:
    here = [
        (column, cell)
        for column, cell in row.cells.items()
        if expectation.covers(KernelVersion.parse(column.kernel.version))
    ]
    return ExpectationView(expectation, sorted(here, key=lambda pair: pair[0].order))


def _packed_claims(
    rows: list[RowView], columns: list[ColumnView], environment: Environment, corrections: Mapping[str, Correction]
) -> Iterator[tuple[str, str]]:
    """What a claim's part begins with, by the number of its row."""
    template = environment.get_template("claim.html.jinja")
    for row in rows:
        correction = corrections.get(row.claim.name, NOTHING)
        yield str(row.index), _packed(template.render(row=row, columns=columns, correction=correction))


def _packed_cells(table: Table, environment: Environment) -> Iterator[tuple[str, str]]:
    """Each cell's part by its place, "row-column"."""
    template = environment.get_template("cell.html.jinja")
    places = {column: index for index, column in enumerate(table.columns)}
    for index, row in enumerate(table.rows):
        for column, cell in row.cells.items():
            yield f"{index}-{places[column]}", _packed(template.render(view=cell_view(row, column, cell)))


def _packed_failures(table: Table, environment: Environment) -> Iterator[tuple[str, str]]:
    """Each failed test's part by its place, "failed-number"."""
    template = environment.get_template("failed.html.jinja")
    for number, failure in enumerate(table.failures):
        yield f"failed-{number}", _packed(template.render(view=failure_view(failure)))


def _packed_chapters(
    edition: Edition | None, rows: list[RowView], environment: Environment
) -> Iterator[tuple[str, str]]:  # fmt: skip
    """Each document's part of the corrected edition."""
    opens = {row.claim.name: f"{row.index}-{row.first}" for row in rows}
    template = environment.get_template("edition.html.jinja")
    for chapter in edition.chapters if edition else ():
        part = template.render(sections=chapter.sections, opens=opens, several=bool(edition and edition.others))
        yield f"document-{chapter.document.id}", _packed(part)


def _packed(part: str) -> str:
    """A part of the page deflated, in base64."""
    deflated = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return base64.b64encode(deflated.compress(part.encode(errors="replace")) + deflated.flush()).decode()
