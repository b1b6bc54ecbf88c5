"""Lines on standard error: what does not stop the work."""

from __future__ import annotations

import click


def note(text: str) -> None:
    """A line for what does not stop the work."""
    click.echo(f"harness: {text}", err=True)


def renamed(old: str, new: str) -> None:
    """Say what a command of before is called now; it still works for one release."""
    note(f"{old} is now: {new}")
