"""`harness kernels`: which kernels can be had, and bringing them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.cli.archive import archive_options
from harness.cli.notes import note

if TYPE_CHECKING:
    from harness.kernels.selection import Selection


@click.group()
def kernels() -> None:
    """Other kernels: which can be had, and bringing them."""


@kernels.command("list")
@click.option("--all", "every", is_flag=True, help="every release, not only the newest of each series")
@archive_options
def list_kernels(every: bool, selection: Selection) -> None:
    """Show the kernels that can be had: series, release, stable version, suite, and whether it is here."""
    from harness.kernels import catalogue

    listed = selection.all() if every else catalogue.newest_of_each_series(selection.all())
    rows = [("SERIES", "RELEASE", "VERSION", "SUITE", "HERE")]
    rows += [
        (kernel.series, kernel.release, kernel.version, kernel.suite, "yes" if selection.store.has(kernel) else "-")
        for kernel in listed
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    for problem in selection.archive.problems().values():
        note(f"without {problem}")


@kernels.command()
@click.argument("wanted", nargs=-1, required=True, metavar="KERNEL...")
@archive_options
def fetch(wanted: tuple[str, ...], selection: Selection) -> None:
    """Bring kernels into the cache: 6.12, 6.12.117, a full release, '>=6.12,<7.1', newest, all."""
    for kernel in selection.choose(wanted):
        if not selection.store.has(kernel):
            click.echo(f"{kernel.release}: {kernel.megabytes} MB to bring", err=True)
        stored = selection.fetch(kernel)
        signed = "; its modules must be signed by its own key, the archive lists them no more" if stored.enforce else ""
        click.echo(f"{kernel.release}: {stored.image.parent}{signed}")
