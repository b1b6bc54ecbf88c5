"""Texts for the user at the terminal: a path as one would type it, an error in a line."""

from __future__ import annotations

from pathlib import Path


def shortest(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def last_line(text: str) -> str:
    """The last line of an error as pytest shows it: what was raised."""
    lines = [line.removeprefix("E").strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
