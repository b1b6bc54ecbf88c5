"""`harness kernels`: which kernels can be had, and bringing them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness import screen
from harness.cli.archive import archive_options
from harness.cli.notes import note

ENOUGH, LACKING = 0, 1

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.kernels.configured import Configured
    from harness.kernels.needs import Need
    from harness.kernels.selection import Selection


@click.group()
def kernels() -> None:
    """List and download other kernels."""


@kernels.command("list")
@click.option("--all", "every", is_flag=True, help="show every release, not only the newest of each series")
@archive_options
def list_kernels(every: bool, selection: Selection) -> None:
    """Show the kernels of the archive: series, release, stable version, suite, and whether each is in the cache."""
    from harness.kernels import catalogue

    listed = selection.all() if every else catalogue.newest_of_each_series(selection.all())
    here = {True: screen.Cell("yes", screen.GOOD), False: screen.Cell("-", screen.ASIDE)}
    screen.table(
        ("SERIES", "RELEASE", "VERSION", "SUITE", "HERE"),
        [(k.series, k.release, k.version, k.suite, here[selection.store.has(k)]) for k in listed],
    )
    for problem in selection.archive.problems().values():
        note(f"without {problem}")


@kernels.command()
@click.argument("wanted", nargs=-1, required=True, metavar="KERNEL...")
@archive_options
def fetch(wanted: tuple[str, ...], selection: Selection) -> None:
    """Download kernels into the cache: 6.12, 6.12.117, a full release, '>=6.12,<7.1', newest, all."""
    for kernel in selection.choose(wanted):
        if not selection.store.has(kernel):
            click.echo(f"{kernel.release}: {kernel.megabytes} MB to download", err=True)
        stored = selection.fetch(kernel)
        signed = "; its modules must be signed by its own key, the archive lists them no more" if stored.enforce else ""
        click.echo(f"{kernel.release}: {stored.image.parent}{signed}")


@kernels.command()
@click.argument("kernel", required=False, metavar="[TREE|CONFIG|IMAGE]")
@click.pass_context
def config(context: click.Context, kernel: str | None) -> None:
    """Print the options that a kernel needs, as a fragment of a .config; or the options that a kernel lacks.

    A fragment goes into a tree by `scripts/kconfig/merge_config.sh .config FRAGMENT && make olddefconfig`. A TREE may
    be built or only configured; an IMAGE is whatever --tcp-kernel takes.

    Exit code 0 if nothing is missing that every scenario needs, 1 if something is, 2 for bad input.
    """
    from harness.kernels import configured, needs

    if kernel is None:
        for line in needs.fragment():
            click.echo(line)
        return
    found = configured.look(kernel)
    needed = _missing(found, needs.HARNESS)
    wanted, helpful = _missing(found, needs.SCENARIOS), _missing(found, needs.HELP)
    rest = [f"{line}; some scenarios need it" for line in wanted] + [f"{line}; it helps" for line in helpful]
    for line in needed:
        click.echo(screen.coloured(line, screen.BAD))
    for line in rest:
        click.echo(line)
    summary = f"{len(needed) or 'nothing'} missing that every scenario needs, {len(wanted) or 'nothing'} that some need"
    click.echo(f"{found.where}: {summary}")
    context.exit(LACKING if needed else ENOUGH)


def _missing(found: Configured, table: Sequence[Need]) -> list[str]:
    """A line for each thing that is missing: the options, what they are, what it is for."""
    from harness.kernels import configuration

    lines = []
    for need in configuration.missing(found.options, found.modules, table):
        named = [option for option in need.options if option in found.options] or list(need.options)
        how = "is a module that is not at hand" if named[0] in found.options else "is not set"
        lines.append(f"{' or '.join(f'CONFIG_{option}' for option in named)} {how}: {need.what}: {need.why}")
    return lines
