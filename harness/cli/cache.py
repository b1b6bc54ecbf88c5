"""`harness cache`: what machines are made of, what it costs, and removing it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from harness import screen
from harness.errors import BadInput

if TYPE_CHECKING:
    from harness.kernels.cache import Entry

_AGES = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


@click.group()
def cache() -> None:
    """List and remove what virtual machines are made of. It is made again when it is needed."""


@cache.command("list")
def list_cache() -> None:
    """Show what is kept: its size, when it was last used, how long it took to make, and what it is for.

    A `state` is a machine that has booted, or that has a project too; its `first files` and the `system` in them are
    what it boots from. A `world` is what a project needs beside itself.
    """
    from harness.kernels import cache, places

    listed = cache.entries()
    rows = [(entry.kind, str(entry.megabytes), _ago(entry.used), _made_in(entry), _what_for(entry)) for entry in listed]
    screen.table(("KIND", "MB", "USED", "MADE IN", "FOR"), rows, right=(1, 2, 3))
    total = sum(entry.size for entry in listed)
    by_itself = sum(entry.size for entry in listed if entry.goes_by_itself)
    click.echo(
        f"{places.cache()}: {_megabytes(total)} MB; {_megabytes(by_itself)} MB of them are kept within a limit of "
        f"{_megabytes(cache.limit())} MB ({cache.LIMIT}=SIZE)"
    )


@cache.command()
@click.option("--keep", metavar="SIZE", help="keep what was used last, up to this size: 5G, 800M")
@click.option("--older", metavar="DAYS", type=click.FloatRange(min=0), help="remove what was not used for DAYS days")
@click.option("--all", "everything", is_flag=True, help="remove all of it")
@click.option("--kernels", is_flag=True, help="remove kernels too; the archive may not have them any more")
def prune(keep: str | None, older: float | None, everything: bool, kernels: bool) -> None:
    """Remove what is kept, except kernels and what a running machine uses.

    Without an option it removes what is over the limit, as each saved state does.
    """
    from harness.kernels import cache

    if sum((keep is not None, older is not None, everything)) > 1:
        raise BadInput("--keep, --older and --all: choose one")
    listed = [entry for entry in cache.entries() if entry.kind != "kernel" or kernels]
    if everything:
        chosen = listed
    elif older is not None:
        chosen = [entry for entry in listed if entry.used < time.time() - older * 86400]
    else:
        most = cache.limit() if keep is None else cache.size_of(keep, "--keep")
        chosen = cache.too_much([entry for entry in listed if entry.goes_by_itself or keep is not None], most)
    freed, left = 0, 0
    for entry in chosen:
        if cache.remove_unused(entry.path):
            freed += entry.size
        else:
            left += 1
            click.echo(f"in use, and left: {entry.kind} {_what_for(entry)}")
    cache.sweep()
    in_use = f", {left} in use" if left else ""
    click.echo(f"{len(chosen) - left} removed{in_use}: {_megabytes(freed)} MB are free again")


def _what_for(entry: Entry) -> str:
    about = entry.about
    return ", ".join(part for part in (about.text or entry.path.name, about.mode) if part)


def _made_in(entry: Entry) -> str:
    return f"{entry.about.seconds:.0f} s" if entry.about.seconds >= 1 else "-"


def _ago(when: float) -> str:
    passed = max(0.0, time.time() - when)
    seconds, unit = next((each for each in _AGES if passed >= each[0]), _AGES[-1])
    return f"{passed / seconds:.0f} {unit} ago"


def _megabytes(size: int) -> int:
    return round(size / 10**6)
