"""The command `harness`: what one does with claims beside running them. Each command has a module of its own."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import click

from harness.cli import (
    bisect,
    cache,
    check,
    claims,
    compare,
    diagnose,
    diff,
    examples,
    history,
    kernels,
    matrix,
    remedy,
    report,
    reproduce,
    scenarios,
    shell,
    snapshot,
    vagrant,
)
from harness.cli.checking import NOTHING_KNOWN
from harness.errors import HarnessError
from harness.evidence.codec import harness_version

if TYPE_CHECKING:
    from collections.abc import Iterator


class Commands(click.Group):
    """A mistake that is made before a command is known ends with 128: it may have been `git bisect run harness chek`.

    git takes 2, with which the commands' own mistakes end, for a kernel that is bad, and stops at 128.
    """

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read what stands before the command."""
        with _nothing_known():
            return super().make_context(info_name, args, parent, **extra)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command."""
        with _nothing_known():
            return super().resolve_command(ctx, args)


@contextlib.contextmanager
def _nothing_known() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        error.show()
        raise click.exceptions.Exit(NOTHING_KNOWN) from None


@click.group(cls=Commands)
@click.version_option(harness_version(), prog_name="tcp-harness", message="%(prog)s %(version)s")
def cli() -> None:
    """Settle claims about Linux TCP on real kernels.

    `harness scenarios` runs the scenarios that settle them. `harness report` makes a page of the results. Every
    command has its own --help, with examples.
    """


for _command in (
    scenarios.scenarios,
    claims.claims,
    report.report,
    compare.compare,
    vagrant.vagrant,
    kernels.kernels,
    cache.cache,
    shell.shell,
    check.check,
    bisect.bisect,
    diff.diff,
    history.history,
    matrix.matrix,
    snapshot.snapshot,
    diagnose.diagnose,
    reproduce.reproduce,
    remedy.remedy,
):
    cli.add_command(_command)
examples.add(cli)


def main() -> None:
    """Run the command; what was wrong with the input is one line, and exit code 2, or 128 before a command is known."""
    try:
        cli()
    except HarnessError as error:
        click.echo(f"harness: {plain(str(error))}", err=True)
        sys.exit(2)


def plain(text: str) -> str:
    """A message without what moves a terminal's cursor, or does worse: names in it may come from anywhere."""
    return "".join(each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in text)
