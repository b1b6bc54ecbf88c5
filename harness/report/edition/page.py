"""The edition as a part of the report's page: made from the report's own evidence, on the newest of its kernels."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from harness.claims.corrections import load_corrections
from harness.claims.register import read
from harness.report.edition.building import Sources, build

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.claims.corrections import Correction
    from harness.claims.documents import Document
    from harness.claims.register import Register
    from harness.report.edition.measured import Runs
    from harness.report.edition.model import Chapter, Edition
    from harness.report.table import Table

_BOLD = re.compile(r"\*\*(.+?)\*\*")
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Texts:
    """What the documents say by line, and what to write instead."""

    register: Register
    corrections: Mapping[str, Correction]


def read_texts(place: Path) -> Texts | None:
    """The texts of a directory of scenarios; None where it has no register."""
    register = place / "register.toml"
    return Texts(read(register), load_corrections(place / "corrections")) if register.is_file() else None


def corrected_documents(table: Table, documents: Mapping[str, Document], texts: Texts) -> Edition | None:
    """The edition of a report's claims; of its newest kernel that settled one. None if none did."""
    runs: Runs = {}
    kernels = {}
    for row, column, cell in table.cells():
        of_it = [entry.run for entry in cell.entries]
        runs.setdefault(row.claim.name, {}).setdefault(column.kernel.version, []).extend(of_it)
        if any(run.verdict for run in of_it):
            kernels[column] = column.kernel
    if not kernels:
        return None
    claims = {row.claim.name: row.claim for row in table.rows}
    sources = Sources(claims, documents, texts.register, texts.corrections)
    edition = build(sources, kernels[max(kernels, key=lambda column: column.order)], runs)
    whole = {entry.claim for _, _, entry in texts.register.entries() if entry.claim} <= claims.keys()
    chapters = (chapter if whole else _of_claims(chapter) for chapter in edition.chapters)
    return replace(edition, chapters=tuple(chapter for chapter in chapters if chapter.told))


def _of_claims(chapter: Chapter) -> Chapter:
    """A chapter without the headings that have no claim: a report of some claims is no edition of the whole."""
    return replace(chapter, sections=tuple(section for section in chapter.sections if section.entries))


def marked(text: str) -> Markup:
    """A text whose **bold** and `code` are those of a page."""
    return Markup(_CODE.sub(r"<code>\1</code>", _BOLD.sub(r"<b>\1</b>", str(escape(text)))))
