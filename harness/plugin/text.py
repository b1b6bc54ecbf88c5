"""Texts for the user at the terminal: a path as one would type it, an error in a line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def shortest(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def last_line(text: str) -> str:
    """The last line of an error as pytest shows it: what was raised."""
    lines = [line.removeprefix("E").strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def skip_reason(report: pytest.CollectReport | pytest.TestReport) -> str:
    """Why a test or a module was skipped, in a line."""
    shown = report.longrepr
    reason = shown[2] if isinstance(shown, tuple) else str(shown)
    return " ".join(reason.removeprefix("Skipped: ").split())
