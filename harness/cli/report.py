"""`harness report`: stored evidence as a page, and in formats for machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness import files, scenarios
from harness.cli.notes import note, renamed
from harness.report.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.table import Table

EVIDENCE = Path("out/evidence")
DEFAULT_OUTPUT = {"html": "report.html", "ktap": "-", "kcidb": "-", "json": "-"}


@click.command()
@click.argument("directories", nargs=-1, metavar="DIR...", type=click.Path(path_type=Path))
@click.option(
    "--output", "-o", help="the file to write, - for standard output [default: report.html, or - for the rest]"
)
@click.option("--diff", nargs=2, metavar="A B", hidden=True)
@click.option("--format", "form", type=click.Choice(FORMATS), default="html", show_default=True)
@click.option(
    "--documents",
    default=scenarios.documents,
    show_default="scenarios/documents.toml, here or of the package",
    type=click.Path(path_type=Path),
    help="the documents' titles; with register.toml and corrections/ beside it they are in the page, corrected",
)
@click.option("--origin", default="tcp_harness", show_default=True, help="the name of the submitter, for KCIDB")
@click.pass_context
def report(
    context: click.Context,
    *,
    directories: tuple[Path, ...],
    output: str | None,
    diff: tuple[str, str] | None,
    form: str,
    documents: Path,
    origin: str,
) -> None:
    """Write the evidence in DIR... as one page, or as one file for programs.

    Name several directories for several kernels, or for several runs on one kernel.
    """
    from harness.report.formats import render
    from harness.report.output import write

    if diff and form != "html":
        raise click.UsageError(f"--diff is a page, not {form}")
    target = output or DEFAULT_OUTPUT[form]
    if diff:
        context.exit(_compare(directories, diff, target))
    table = _read(directories or (EVIDENCE,))
    write(target, render(form, table, documents=documents, origin=origin))
    if target != "-":
        click.echo(target, err=True)


def _read(directories: Sequence[Path]) -> Table:
    from harness.report.table import read

    table = read(directories)
    for notice in table.notices:
        note(notice)
    return table


def _compare(directories: Sequence[Path], words: tuple[str, str], target: str) -> int:
    """What `harness compare` does, by its name of before, which said nothing by its exit code."""
    from harness.cli.compare import answer
    from harness.cli.question import SAME, USAGE, Question

    stored = () if not directories and all(map(files.is_directory, words)) else directories or (EVIDENCE,)
    shown = "".join(f" --evidence {directory}" for directory in stored)
    renamed("harness report --diff", f"harness compare {' '.join(words)}{shown} --page {target}")
    code = answer(Question(words, evidence=tuple(stored), page=target))
    if code != USAGE and target != "-":
        click.echo(target, err=True)
    return USAGE if code == USAGE else SAME
