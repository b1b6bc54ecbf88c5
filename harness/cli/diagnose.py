"""`harness diagnose`: what is wrong with a machine, by its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness import scenarios

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.diagnosis.findings import Diagnosis
    from harness.evidence.types import Claim

NOTHING, FINDINGS = 0, 1


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--json", "form", flag_value="json", help="for programs: docs/diagnosis.schema.json describes it")
@click.option("--markdown", "form", flag_value="markdown", help="for a ticket")
@click.option("--page", metavar="FILE", help="write a page as well, - for standard output, in place of the text")
@click.option(
    "--claims",
    "place",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="the claim files that explain findings [default: scenarios/claims, here or of the package]",
)
@click.pass_context
def diagnose(
    context: click.Context, *, files: tuple[Path, ...], form: str | None, page: str | None, place: Path | None
) -> None:
    """Find what is wrong with a machine, from its files. Causes come first, then what follows from them.

    A FILE is what `harness snapshot` printed there, the output of ss, netstat, nstat, sysctl or dmesg, files of
    /proc/net, a sosreport, a scrape of node_exporter, a capture, or a directory of such. Give counters twice, some
    seconds apart: one set has no rates.

    Exit code 0 if nothing is wrong as far as the files show, 1 if something is, 2 for bad input.
    """
    from harness.diagnosis import diagnose as room
    from harness.incident.read import read

    said = room.diagnose(read(files), _claims(place))
    if page != "-":
        _tell(said, form or "text")
    if page:
        from harness.report.diagnosis.page import render
        from harness.report.output import write

        write(page, render(said))
    context.exit(FINDINGS if said.findings else NOTHING)


def _claims(place: Path | None) -> Mapping[str, Claim]:
    """The claims; none where their files are not at hand, which findings then say."""
    from harness.claims.files import load

    found = place or scenarios.place() / "claims"
    return load(found) if found.is_dir() else {}


def _tell(said: Diagnosis, form: str) -> None:
    if form == "json":
        from harness.diagnosis.findings import as_json

        click.echo(as_json(said), nl=False)
    elif form == "markdown":
        from harness.report.diagnosis.markdown import markdown

        click.echo(markdown(said), nl=False)
    else:
        from harness.report.comparison.lines import printable
        from harness.report.diagnosis.lines import in_colour, lines

        for line in printable(lines(said)):
            click.echo(in_colour(line))
