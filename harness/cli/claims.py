"""`harness claims`: the corrected edition of the documents."""

from __future__ import annotations

from pathlib import Path

import click

HERE = Path("scenarios")
PLACE = click.Path(path_type=Path)


@click.command()
@click.option("--claims", "place", default=HERE / "claims", type=PLACE, show_default=True, help="the claim files")
@click.option(
    "--documents", default=HERE / "documents.toml", type=PLACE, show_default=True, help="their documents and headings"
)
@click.option(
    "--register", default=HERE / "register.toml", type=PLACE, show_default=True, help="what the documents say, by line"
)
@click.option(
    "--corrections", default=HERE / "corrections", type=PLACE, show_default=True, help="what to write instead"
)
@click.option(
    "--evidence", default="out/evidence", type=PLACE, show_default=True, help="evidence of a run of the scenarios"
)
@click.option("--also", multiple=True, type=PLACE, help="evidence of other kernels, to tell of beside it (repeatable)")
@click.option("--output", "-o", default="-", show_default="standard output", help="the Markdown file to write")
@click.option("--chinese", default="", help="a Markdown file for the corrections in Chinese")
def claims(
    *,
    place: Path,
    documents: Path,
    register: Path,
    corrections: Path,
    evidence: Path,
    also: tuple[Path, ...],
    output: str,
    chinese: str,
) -> None:
    """Write the corrected edition of the documents: what they say, what is true since when, what to write instead."""
    from harness.report import edition
    from harness.report.edition.sources import read_sources
    from harness.report.output import write

    made = edition.make(read_sources(place, documents, register, corrections), evidence, also)
    write(output, edition.write(made))
    if chinese:
        write(chinese, edition.write_chinese(made))
