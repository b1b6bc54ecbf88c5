"""`harness claims`: the corrected edition of the documents."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--claims", "place", default="scenarios/claims", show_default=True, help="directory with the claim files")
@click.option("--documents", default="scenarios/documents.toml", show_default=True, help="their documents and headings")
@click.option("--evidence", default="out/evidence", show_default=True, help="evidence of a run of the scenarios")
@click.option("--output", "-o", default="-", show_default="standard output", help="the Markdown file to write")
def claims(place: str, documents: str, evidence: str, output: str) -> None:
    """Write the corrected edition of the documents: each statement with verdict, measurement, and since when."""
    from harness.claims.documents import load_documents
    from harness.claims.files import load
    from harness.report import edition
    from harness.report.output import write

    write(output, edition.write(load(place), load_documents(Path(documents)), Path(evidence)))
