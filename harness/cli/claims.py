"""`harness claims`: the corrected edition of the documents."""

from __future__ import annotations

from pathlib import Path

import click

from harness import scenarios
from harness.scenarios import WHERE

PLACE = click.Path(path_type=Path)


@click.command()
@click.option("--claims", "place", type=PLACE, help=f"the claim files [default: claims/ of the {WHERE}]")
@click.option("--documents", type=PLACE, help="their documents and headings [default: documents.toml there]")
@click.option("--register", type=PLACE, help="what the documents say, by line [default: register.toml there]")
@click.option("--corrections", type=PLACE, help="what to write instead [default: corrections/ there]")
@click.option(
    "--evidence", default="out/evidence", type=PLACE, show_default=True, help="evidence of a run of the scenarios"
)
@click.option("--also", multiple=True, type=PLACE, help="evidence of other kernels, to show beside it (repeatable)")
@click.option("--output", "-o", default="-", show_default="standard output", help="the Markdown file to write")
@click.option("--chinese", default="", help="a Markdown file for the corrections in Chinese")
def claims(
    *,
    place: Path | None,
    documents: Path | None,
    register: Path | None,
    corrections: Path | None,
    evidence: Path,
    also: tuple[Path, ...],
    output: str,
    chinese: str,
) -> None:
    """Write the corrected edition of the documents: what they say, what is true since when, what to write instead."""
    from harness.report import edition
    from harness.report.edition.sources import read_sources
    from harness.report.output import refuse, write

    refuse(output, chinese)
    here = scenarios.place()
    sources = read_sources(
        place or here / "claims",
        documents or here / "documents.toml",
        register or here / "register.toml",
        corrections or here / "corrections",
    )
    made = edition.make(sources, evidence, also)
    write(output, edition.write(made))
    if chinese:
        write(chinese, edition.write_chinese(made))
