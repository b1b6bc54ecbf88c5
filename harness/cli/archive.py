"""The options that say where kernels come from, for the commands that take kernels of the archive."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import click

from harness.cli.notes import note

if TYPE_CHECKING:
    from collections.abc import Callable


def archive_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options, and `selection`: the kernels that can be had."""

    @functools.wraps(command)
    def with_selection(
        mirror: str | None, suites: tuple[str, ...], keyring: str | None, update: bool, **others: Any
    ) -> None:
        from harness.kernels.archive import FRESH
        from harness.kernels.selection import Selection

        older_than = 0.0 if update else FRESH
        command(selection=Selection(mirror, suites, keyring, older_than=older_than, say=note), **others)

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
