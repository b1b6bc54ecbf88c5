"""The command `harness`: what one does with claims beside running them. Each command has a module of its own."""

from __future__ import annotations

import contextlib
import os
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
    _have_outputs()
    try:
        cli()
    except HarnessError as error:
        click.echo(f"harness: {plain(str(error))}", err=True)
        sys.exit(2)
    except OSError as error:
        if not _is_of_the_output(error):
            raise
        click.echo(f"harness: standard output cannot be written: {error.strerror}", err=True)
        sys.exit(2)


def _is_of_the_output(error: OSError) -> bool:
    """Whether standard output is what could not be written: a line more cannot be either. Then nothing else will be."""
    try:
        print(flush=True)
    except OSError as again:
        # Python's end flushes it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return again.errno == error.errno
    return False


def _have_outputs() -> None:
    """Where a shell has closed an output (>&-) what is printed goes nowhere; it would go into a file opened next."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


def plain(text: str) -> str:
    """A message without what moves a terminal's cursor, or does worse: names in it may come from anywhere."""
    return "".join(each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in text)
