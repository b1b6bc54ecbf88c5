"""The command `harness`: what one does with claims beside running them."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.errors import HarnessError
from harness.report.command import report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from harness.kernels.archive import Archive


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


@cli.group()
def kernels() -> None:
    """Other kernels: which can be had, and bringing them."""


def _archive_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say where kernels come from."""
    for option in (
        click.option("--mirror", help="another mirror of Debian than this machine's apt has; name its suites too"),
        click.option("--suite", "suites", multiple=True, help="a suite of --mirror (repeatable), older ones included"),
        click.option("--keyring", default=None, help="the keys that sign the archive (default: Debian's)"),
        click.option("--update", is_flag=True, help="read the archive's index anew, though it was read today"),
    ):
        command = option(command)
    return command


@kernels.command("list")
@click.option("--all", "every", is_flag=True, help="every release, not only the newest of each series")
@_archive_options
def list_kernels(every: bool, mirror: str | None, suites: tuple[str, ...], keyring: str | None, update: bool) -> None:
    """Show the kernels that can be had: series, release, stable version, suite, and whether it is here."""
    from harness.kernels import catalogue, places
    from harness.kernels.store import Store

    archive = _archive(mirror, suites, keyring, update=update)
    found = catalogue.kernels_of(archive.packages())
    store = Store(places.kernels())
    rows = [("SERIES", "RELEASE", "VERSION", "SUITE", "HERE")]
    rows += [
        (one.series, one.release, one.version, one.suite, "yes" if store.has(one) else "-")
        for one in (found if every else catalogue.newest_of_each_series(found))
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    if absent := archive.missing_suites():
        click.echo(f"not on this mirror: {', '.join(absent)}", err=True)


@kernels.command()
@click.argument("wanted", nargs=-1, required=True, metavar="KERNEL...")
@_archive_options
def fetch(
    wanted: tuple[str, ...], mirror: str | None, suites: tuple[str, ...], keyring: str | None, update: bool
) -> None:
    """Bring kernels into the cache: 6.12, 6.12.117, a full release, '>=6.12,<7.1', newest, all."""
    from harness.kernels import catalogue, places
    from harness.kernels.store import Store

    archive = _archive(mirror, suites, keyring, update=update)
    store = Store(places.kernels())
    for one in catalogue.choose(wanted, catalogue.kernels_of(archive.packages())):
        if not store.has(one):
            click.echo(f"{one.release}: {one.megabytes} MB to bring", err=True)
        stored = store.fetch(one, archive)
        note = "; its modules must be signed by its own key, the archive lists them no more" if stored.enforce else ""
        click.echo(f"{one.release}: {stored.image.parent}{note}")


@cli.command()
@click.argument("claim")
@click.option("--from", "first", required=True, metavar="KERNEL", help="where it has one verdict: 5.10")
@click.option("--to", "last", required=True, metavar="KERNEL", help="where it has another: 7.3")
@click.option("--every", is_flag=True, help="between all releases, not only the newest of each series")
def bisect(claim: str, first: str, last: str, every: bool) -> None:
    """Find the two neighbouring kernels between which the verdict of CLAIM changes."""
    from harness.kernels import bisect as halving
    from harness.kernels import catalogue

    archive = _archive(None, (), None, update=False)
    found = catalogue.kernels_of(archive.packages())
    ends = [catalogue.choose([word], found)[0] for word in (first, last)]
    candidates = found if every else catalogue.newest_of_each_series([*found])
    low, high = sorted(one.order for one in ends)
    between = sorted({*[one for one in candidates if low < one.order < high], *ends}, key=lambda one: one.order)
    with halving.Runs(claim, click.echo) as runs:
        boundary = halving.halve(between, runs.verdict)
        (before, after), (one, other) = boundary.verdicts, (boundary.before.release, boundary.after.release)
        click.echo(f"{claim}: {before} on {one}, {after} on {other}")
        for line in halving.side_by_side(runs.evidence[one], runs.evidence[other]):
            click.echo(f"  {line}")


@cli.command()
@click.argument("first")
@click.argument("second")
@click.option("--claim", "claims_", multiple=True, metavar="CLAIM", help="compare these claims only (repeatable)")
@click.option("--facts-only", is_flag=True, help="only sysctls and counters: run no scenario")
def diff(first: str, second: str, claims_: tuple[str, ...], facts_only: bool) -> None:
    """Show what differs between two kernels: verdicts, measurements, defaults of sysctls, counters."""
    import tempfile

    from harness.kernels import bisect as halving
    from harness.kernels import catalogue, facts, places
    from harness.kernels.store import Store

    archive = _archive(None, (), None, update=False)
    found = catalogue.kernels_of(archive.packages())
    store = Store(places.kernels())
    both = [store.fetch(catalogue.choose([word], found)[0], archive) for word in (first, second)]
    if not facts_only:
        with tempfile.TemporaryDirectory(prefix="harness-diff-") as directory:
            _diff_of_claims([one.release for one in both], claims_, Path(directory), halving)
    for heading, lines in facts.differences(*(facts.of(one, Path.cwd()) for one in both)).items():
        click.echo(f"{heading}: {len(lines) or 'none'}")
        for line in lines:
            click.echo(f"  {line}")


def _diff_of_claims(kernels: list[str], chosen: tuple[str, ...], directory: Path, halving: ModuleType) -> None:
    """Run the claims on both kernels, side by side, and print what came out differently."""
    import json
    import subprocess

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
        verdicts = [halving.verdict_of(one) for one in sides]
        lines = halving.side_by_side(*sides)
        if verdicts[0] != verdicts[1] or lines:
            click.echo(f"{claim}: {' -> '.join(dict.fromkeys(verdicts))}")
            for line in lines:
                click.echo(f"  {line}")


def _archive(mirror: str | None, suites: Sequence[str], keyring: str | None, *, update: bool) -> Archive:
    from harness.kernels import archive, places

    if suites and not mirror:
        raise click.UsageError("--suite needs --mirror, the address that has it")
    sources = archive.named_sources(mirror, suites) if mirror else archive.machine_sources()
    # One state for each set of sources, so that a mirror tried once does not throw away the machine's own.
    name = hashlib.sha256(repr(sources).encode()).hexdigest()[:12]
    found = archive.Archive(places.indices() / name, sources, keyring=keyring or archive.KEYRING)
    found.update(older_than=0 if update else archive.FRESH)
    return found


def main() -> None:
    """Run the command; what was wrong with the input is one line, and exit code 2."""
    try:
        cli()
    except HarnessError as error:
        click.echo(f"harness: {error}", err=True)
        sys.exit(2)
