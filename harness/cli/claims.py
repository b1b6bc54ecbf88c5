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
    from harness.claims.data import load
    from harness.claims.documents import load_documents
    from harness.claims.edition import corrected

    text = corrected(load(place), load_documents(Path(documents)), Path(evidence))
    if output == "-":
        click.echo(text, nl=False)
        return
    whole = Path(f"{output}.part")
    try:
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.write_text(text, encoding="utf-8")
        whole.replace(output)
    except OSError as error:
        raise click.ClickException(f"{output}: cannot be written: {error.strerror}") from None
