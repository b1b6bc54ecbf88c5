"""Evidence as a page, or in a format for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import scenarios

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.claims.documents import Document
    from harness.report.edition.page import Texts
    from harness.report.table import Table

FORMATS = ("html", "ktap", "kcidb", "json")


def render(form: str, table: Table, *, documents: Path | None = None, origin: str | None = None) -> str:
    """Evidence in one of FORMATS; `documents` have the titles for the page (None: ours), `origin` is for KCIDB."""
    if form == "ktap":
        from harness.report import ktap

        return ktap.write(table)
    if form == "kcidb":
        from harness.report import kcidb

        return kcidb.write(table, origin or kcidb.ORIGIN)
    if form == "json":
        from harness.report import results

        return results.write(table)
    from harness.report import page

    documents = documents or scenarios.documents()
    return page.render(table, _titles(documents), _texts(documents.parent))


def _texts(place: Path) -> Texts | None:
    """What the corrected edition is made from, beside the documents' titles, where it is there."""
    from harness.report.edition.page import read_texts

    return read_texts(place)


def _titles(file: Path) -> Mapping[str, Document]:
    """The documents, where their file is here; a report of somebody else's scenarios does without."""
    from harness.claims.documents import load_documents

    return load_documents(file) if file.is_file() else {}
