"""`harness report`: stored evidence as a page, as a comparison of two kernels or runs, and in machines' formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.claims.documents import Document
    from harness.report.stored import Column, Table

DOCUMENTS = "scenarios/documents.toml"
FORMATS = ("html", "ktap", "kcidb", "json")
DEFAULT_OUTPUT = {"html": "report.html", "ktap": "-", "kcidb": "-", "json": "-"}


@click.command()
@click.argument("directories", nargs=-1, metavar="DIR...", type=click.Path(path_type=Path))
@click.option(
    "--output", "-o", help="the file to write, - for standard output [default: report.html, or - for the rest]"
)
@click.option(
    "--diff", nargs=2, metavar="A B", help="show what changed between two kernels of DIR..., or two directories"
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="html", show_default=True)
@click.option(
    "--documents", default=DOCUMENTS, show_default=True, help="the documents' titles, for the filter of the page"
)
@click.option("--origin", default="tcp_harness", show_default=True, help="KCIDB's name of who submits")
def report(
    *,
    directories: tuple[Path, ...],
    output: str | None,
    diff: tuple[str, str] | None,
    form: str,
    documents: str,
    origin: str,
) -> None:
    """Make one page, or one file for a machine, of the evidence that runs left in DIR...

    Several directories are several kernels, or several runs of one.
    """
    if diff and form != "html":
        raise click.UsageError(f"--diff is a page, not {form}")
    target = output or DEFAULT_OUTPUT[form]
    if diff:
        write(target, _comparison(directories, diff))
    else:
        write(target, made(form, _read(directories or (Path("out/evidence"),)), Path(documents), origin))
    if target != "-":
        click.echo(target, err=True)


def made(form: str, table: Table, documents: Path = Path(DOCUMENTS), origin: str = "tcp_harness") -> str:
    """Evidence in one of FORMATS."""
    if form == "ktap":
        from harness.report import ktap

        return ktap.write(table)
    if form == "kcidb":
        from harness.report import kcidb

        return kcidb.write(table, origin)
    if form == "json":
        from harness.report import results

        return results.write(table)
    from harness.report.page import render

    return render(table, _titles(documents))


def _read(directories: Sequence[Path]) -> Table:
    from harness.report.stored import read

    table = read(directories)
    for notice in table.notices:
        click.echo(f"harness: {notice}", err=True)
    return table


def _titles(file: Path) -> Mapping[str, Document]:
    """The documents, where their file is here; a report of somebody else's scenarios does without."""
    from harness.claims.documents import load_documents

    return load_documents(file) if file.is_file() else {}


def _comparison(directories: Sequence[Path], wanted: tuple[str, str]) -> str:
    from harness.report.changes import Side, choose, compare
    from harness.report.page import render_comparison

    places = [Path(one) for one in wanted]
    if not directories and all(place.is_dir() for place in places):
        table = _read(places)
        sides = [Side(table, _only(table, place)) for place in places]
    else:
        table = _read(directories or (Path("out/evidence"),))
        sides = [Side(table, choose(table, one)) for one in wanted]
    if sides[0] == sides[1]:
        raise BadInput(f"--diff {' '.join(wanted)}: both are {sides[0].label}; name two")
    return render_comparison(compare(sides[0], sides[1]))


def _only(table: Table, place: Path) -> Column:
    """The one kernel that a directory has evidence of."""
    found = table.columns_of(place)
    if len(found) != 1:
        known = ", ".join(column.version for column in found)
        raise BadInput(f"{place} has evidence of {known}: name two kernels of it, harness report {place} --diff A B")
    return found[0]


def write(target: str, content: str) -> None:
    """Write a file, whole or not at all; "-" is standard output."""
    from harness.claims.evidence import write_whole

    if target == "-":
        click.echo(content, nl=False)
        return
    file = Path(target)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, content.encode("utf-8", errors="replace"))
    except FileExistsError:
        raise BadInput(f"{target}: cannot be written: {file.parent} is no directory") from None
    except OSError as error:
        raise BadInput(f"{target}: cannot be written: {error.strerror}") from None
