"""The command `harness`: what one does with claims beside running them. Each command has a module of its own."""

from __future__ import annotations

import sys

import click

from harness.cli import (
    bisect,
    check,
    claims,
    compare,
    diagnose,
    diff,
    history,
    kernels,
    remedy,
    report,
    reproduce,
    snapshot,
    vagrant,
)
from harness.errors import HarnessError


@click.group()
def cli() -> None:
    """Settles claims about Linux TCP on real kernels. The claims themselves are run by `pytest scenarios/`."""


for _command in (
    claims.claims,
    report.report,
    compare.compare,
    vagrant.vagrant,
    kernels.kernels,
    check.check,
    bisect.bisect,
    diff.diff,
    history.history,
    snapshot.snapshot,
    diagnose.diagnose,
    reproduce.reproduce,
    remedy.remedy,
):
    cli.add_command(_command)


def main() -> None:
    """Run the command; what was wrong with the input is one line, and exit code 2."""
    try:
        cli()
    except HarnessError as error:
        click.echo(f"harness: {error}", err=True)
        sys.exit(2)
