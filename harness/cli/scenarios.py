"""`harness scenarios`: run the scenarios, say where they are, or copy them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness import scenarios as where
from harness.errors import BadInput
from harness.files import is_directory, is_file

if TYPE_CHECKING:
    from collections.abc import Iterable


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--where", "asks_where", is_flag=True, help="Print the directory of the scenarios and do nothing else.")
@click.option(
    "--copy",
    "target",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Copy the scenarios to a new directory, to read and to change them, and do nothing else.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PYTEST ARGUMENTS]...")
def scenarios(asks_where: bool, target: Path | None, arguments: tuple[str, ...]) -> None:
    """Run the scenarios that settle the claims, with pytest.

    The scenarios come with the package. A directory `scenarios` with claims in the current directory, or a clone that
    the package runs from, is used instead. All arguments go to pytest. Evidence is written to out/evidence.

    \b
    Examples:
      harness scenarios -n 16 --dist worksteal
      harness scenarios --tcp-claim accept-queue.capacity
      harness scenarios test_ports.py -k ipv4 --tcp-kernel 6.12
    """
    place = where.place().absolute()
    if asks_where:
        click.echo(place)
    elif target is not None:
        click.echo(where.copy(target))
    else:
        _run(place, arguments)


def _run(place: Path, arguments: Iterable[str]) -> None:
    """Become pytest."""
    if not is_directory(place):
        raise BadInput(f"{place}: there are no scenarios here, and none came with the package; reinstall it")
    words = [_in(place, word) for word in arguments]
    named = any(Path(word.partition("::")[0]).is_relative_to(place) for word in words)
    os.environ["PWD"] = str(Path.cwd())  # where the settings put pytest's cache
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *([] if named else [str(place)]), *words])


def _in(place: Path, word: str) -> str:
    """A file of the scenarios, or a test in one, by its whole path; any other word as it is."""
    name = word.partition("::")[0]
    found = not word.startswith("-") and name.endswith(".py") and is_file(place / name)
    return str(place / word) if found else word
