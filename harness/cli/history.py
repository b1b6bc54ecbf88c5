"""`harness history`: what became of many runs, from the evidence that they left."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.notes import note
from harness.errors import BadInput

SHOWN, INCOMPLETE = 0, 2


@click.command()
@click.argument("places", nargs=-1, required=True, metavar="PLACE...", type=click.Path(path_type=Path))
@click.option("--claim", "claims", multiple=True, metavar="CLAIM", help="show this claim or group only (repeatable)")
@click.option(
    "--line", "lines", multiple=True, metavar="KERNEL", help="show this line of kernels only: 6.12 (repeatable)"
)
@click.option("--all", "every", is_flag=True, help="list every test with its numbers, and every change")
@click.option("--json", "as_json", is_flag=True, help="print everything as JSON, with the names that NIPA uses")
@click.option("--remote", default="tcp-harness", show_default=True, help="the name of who ran it, for --json")
@click.option(
    "--url", default="", metavar="ADDRESS", help="where the places are published; links of --json begin with it"
)
@click.option("--page", metavar="FILE", help="write a page, - for standard output")
@click.pass_context
def history(
    context: click.Context,
    *,
    places: tuple[Path, ...],
    claims: tuple[str, ...],
    lines: tuple[str, ...],
    every: bool,
    as_json: bool,
    remote: str,
    url: str,
    page: str | None,
) -> None:
    """Show what became of many runs: verdicts, numbers and durations by kernel, flaky tests, changes.

    Each PLACE is a directory with evidence, a directory of such directories, or an archive of either (zip, tar, packed
    or not), as CI keeps them. Exit code 0, or 2 for bad input and if something could not be read: a line says what.
    """
    from harness.report.comparison.lines import printable
    from harness.report.history.gathering import gather
    from harness.report.history.lines import of_history
    from harness.report.history.model import history as made_of
    from harness.report.history.model import line_of
    from harness.report.output import write

    if page and as_json:
        raise click.UsageError("--page or --json: choose one")
    gathered = gather(places, claims or None)
    made = made_of(gathered, [line_of(each) for each in lines])
    if not made.lines:
        known = ", ".join(dict.fromkeys(line.name for line in made_of(gathered).lines))
        raise BadInput(f"no evidence of Linux {', '.join(lines)} here; there is {known}")
    if page:
        from harness.report.history.page import render

        write(page, render(made))
    elif as_json:
        from harness.report.history import nipa

        write("-", nipa.write(made, remote, url))
    else:
        for line in printable(of_history(made, every=every)):
            click.echo(line)
    for notice in printable(made.notices):
        note(notice)
    context.exit(INCOMPLETE if made.notices else SHOWN)
