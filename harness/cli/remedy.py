"""`harness remedy`: what helps a machine, tried in labs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.notes import note

if TYPE_CHECKING:
    from harness.desk.table import RemedyTable

TRIED, NOT_HERE = 0, 1


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--finding", metavar="NAME", help="the finding to try, by its name or its number in `harness diagnose`")
@click.option("--json", "form", flag_value="json", help="for programs: docs/remedies.schema.json describes it")
@click.option("--markdown", "form", flag_value="markdown", help="for a ticket")
@click.option("--page", metavar="FILE", help="write a page as well, - for standard output, in place of the text")
@click.pass_context
def remedy(
    context: click.Context, *, files: tuple[Path, ...], finding: str | None, form: str | None, page: str | None
) -> None:
    """Try the usual remedies for what is wrong with a machine, in labs on this kernel.

    FILE... are as for `harness diagnose`. Each remedy is tried alone, then the helpful ones together. The
    table shows how much of the symptom remains, the side effects, and whether a remedy is safe, useless or harmful.

    Exit code 0 if they were tried, 1 if there is nothing to try or no lab can show the symptom, 2 for bad input.
    """
    from harness.desk.catalogue import case_of
    from harness.desk.experiment import CannotStand
    from harness.desk.trying import try_remedies
    from harness.incident.read import read
    from harness.report.output import refuse

    refuse(page)
    try:
        table = try_remedies(case_of(read(files), finding, here=True))
    except CannotStand as error:
        note(str(error))
        context.exit(NOT_HERE)
    if page != "-":
        _tell(table, form or "text")
    if page:
        from harness.report.output import write
        from harness.report.remedies.page import render

        write(page, render(table))
    context.exit(TRIED)


def _tell(table: RemedyTable, form: str) -> None:
    if form == "json":
        from harness.desk.table import as_json

        click.echo(as_json(table), nl=False)
    elif form == "markdown":
        from harness.report.remedies.markdown import markdown

        click.echo(markdown(table), nl=False)
    else:
        from harness.report.comparison.lines import printable
        from harness.report.remedies.lines import in_colour, lines

        for line in printable(lines(table)):
            click.echo(in_colour(line))
