"""The command `harness`: what one does with claims beside running them."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.errors import HarnessError
from harness.report.command import report
from harness.report.compare import compare
from harness.vagrant.command import vagrant

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.kernels.selection import Selection


@click.group()
def cli() -> None:
    """Settles claims about Linux TCP on real kernels. The claims themselves are run by `pytest scenarios/`."""


@cli.command()
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


cli.add_command(report)
cli.add_command(compare)
cli.add_command(vagrant)


@cli.group()
def kernels() -> None:
    """Other kernels: which can be had, and bringing them."""


def _archive_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say where kernels come from, made into `selection`, the kernels that can be had."""

    @functools.wraps(command)
    def with_selection(
        mirror: str | None, suites: tuple[str, ...], keyring: str | None, update: bool, **others: Any
    ) -> None:
        from harness.kernels.archive import FRESH
        from harness.kernels.selection import Selection

        older_than = 0.0 if update else FRESH
        command(selection=Selection(mirror, suites, keyring, older_than=older_than, say=_note), **others)

    for option in (
        click.option("--update", is_flag=True, help="read the archive's index anew, though it was read today"),
        click.option(
            "--keyring", metavar="FILE", default=None, help="the keys that sign the archive (default: Debian's)"
        ),
        click.option(
            "--suite", "suites", metavar="NAME", multiple=True, help="a suite of --mirror (repeatable): stretch"
        ),
        click.option(
            "--mirror",
            metavar="ADDRESS",
            help="the archive to use in place of those of this machine's apt (http:, https: or file:)",
        ),
    ):
        with_selection = option(with_selection)
    return with_selection


def _note(text: str) -> None:
    click.echo(f"harness: {text}", err=True)


@kernels.command("list")
@click.option("--all", "every", is_flag=True, help="every release, not only the newest of each series")
@_archive_options
def list_kernels(every: bool, selection: Selection) -> None:
    """Show the kernels that can be had: series, release, stable version, suite, and whether it is here."""
    from harness.kernels import catalogue

    found = selection.all()
    rows = [("SERIES", "RELEASE", "VERSION", "SUITE", "HERE")]
    rows += [
        (one.series, one.release, one.version, one.suite, "yes" if selection.store.has(one) else "-")
        for one in (found if every else catalogue.newest_of_each_series(found))
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    for problem in selection.archive.problems().values():
        _note(f"without {problem}")


@kernels.command()
@click.argument("wanted", nargs=-1, required=True, metavar="KERNEL...")
@_archive_options
def fetch(wanted: tuple[str, ...], selection: Selection) -> None:
    """Bring kernels into the cache: 6.12, 6.12.117, a full release, '>=6.12,<7.1', newest, all."""
    for one in selection.choose(wanted):
        if not selection.store.has(one):
            click.echo(f"{one.release}: {one.megabytes} MB to bring", err=True)
        stored = selection.fetch(one)
        note = "; its modules must be signed by its own key, the archive lists them no more" if stored.enforce else ""
        click.echo(f"{one.release}: {stored.image.parent}{note}")


@cli.command()
@click.argument("claim")
@click.option("--from", "first", required=True, metavar="KERNEL", help="where it has one verdict: 5.10")
@click.option("--to", "last", required=True, metavar="KERNEL", help="where it has another: 7.3")
@click.option("--every", is_flag=True, help="between all releases, not only the newest of each series")
@_archive_options
def bisect(claim: str, first: str, last: str, every: bool, selection: Selection) -> None:
    """Find the two neighbouring kernels between which the verdict of CLAIM changes."""
    from harness.claims.verdicts import side_by_side
    from harness.kernels import bisect as halving
    from harness.kernels import catalogue

    found = selection.all()
    ends = [selection.choose([word])[0] for word in (first, last)]
    candidates = found if every else catalogue.newest_of_each_series([*found])
    low, high = sorted(one.order for one in ends)
    between = sorted({*[one for one in candidates if low < one.order < high], *ends}, key=lambda one: one.order)
    with halving.Runs(claim, selection.fetch, click.echo) as runs:
        boundary = halving.halve(between, runs.verdict)
        (before, after), (one, other) = boundary.verdicts, (boundary.before.release, boundary.after.release)
        click.echo(f"{claim}: {before} on {one}, {after} on {other}")
        for line in side_by_side(runs.evidence[one], runs.evidence[other]):
            click.echo(f"  {line}")


@cli.command()
@click.argument("first")
@click.argument("second")
@click.option("--claim", "claims_", multiple=True, metavar="CLAIM", help="compare these claims only (repeatable)")
@click.option("--facts-only", is_flag=True, help="only sysctls and counters: run no scenario")
@_archive_options
def diff(first: str, second: str, claims_: tuple[str, ...], facts_only: bool, selection: Selection) -> None:
    """Show what differs between two kernels: verdicts, measurements, defaults of sysctls, counters."""
    import tempfile

    from harness.kernels import facts

    both = [selection.fetch(selection.choose([word])[0]) for word in (first, second)]
    if not facts_only:
        with tempfile.TemporaryDirectory(prefix="harness-diff-") as directory:
            _diff_of_claims([one.release for one in both], claims_, Path(directory))
    for heading, lines in facts.differences(*(facts.of(one, Path.cwd()) for one in both)).items():
        click.echo(f"{heading}: {len(lines) or 'none'}")
        for line in lines:
            click.echo(f"  {line}")


def _diff_of_claims(kernels: list[str], chosen: tuple[str, ...], directory: Path) -> None:
    """Run the claims on both kernels, side by side, and print what came out differently."""
    import json
    import subprocess

    from harness.claims.verdicts import side_by_side, verdict_of

    processes = []
    for kernel in kernels:
        argv = [
            sys.executable,
            "-m",
            "pytest",
            "scenarios",
            "-q",
            "--kernel",
            kernel,
            "--evidence",
            str(directory / kernel),
        ]
        argv += [word for claim in chosen for word in ("--claim", claim)]
        processes.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
    for process in processes:
        process.wait()
    first, second = (
        {
            file.stem: json.loads(file.read_text(encoding="utf-8"))
            for file in sorted((directory / kernel).glob("*.json"))
        }
        for kernel in kernels
    )
    nothing: dict[str, list[str]] = {"runs": []}
    for claim in sorted({*first, *second}):
        sides = first.get(claim, nothing), second.get(claim, nothing)
        verdicts = [verdict_of(one) for one in sides]
        lines = side_by_side(*sides)
        if verdicts[0] != verdicts[1] or lines:
            click.echo(f"{claim}: {' -> '.join(dict.fromkeys(verdicts))}")
            for line in lines:
                click.echo(f"  {line}")


def main() -> None:
    """Run the command; what was wrong with the input is one line, and exit code 2."""
    try:
        cli()
    except HarnessError as error:
        click.echo(f"harness: {error}", err=True)
        sys.exit(2)
