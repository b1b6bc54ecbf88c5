"""Errors of a run that no test has raised: the summary, JUnit's XML and the exit status take them as any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _pytest._io import TerminalWriter

# An attribute of such a report: whether it is about a test that was run.
RAN = "harness_ran"


def error(where: str, why: str, *, when: str = "collect", ran: bool = False) -> pytest.CollectReport:
    """An error that stands under `where`, with the line `why`; `when` is what found it, if not collecting.

    `ran` says that it is about a test that was run: where results are listed, it is not missing.
    """
    made = pytest.CollectReport(where, "failed", _Said(where, why), [])  # type: ignore[arg-type]
    made.when = when
    setattr(made, RAN, ran)
    return made


def status(report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, str] | None:
    """The word for one: pytest takes only what is collected, set up or torn down for an error."""
    return ("error", "E", "ERROR") if hasattr(report, RAN) else None


class _Said:
    """A text as pytest shows errors: by itself, and in the line of the short summary."""

    def __init__(self, where: str, why: str) -> None:
        self.message = why
        self._whole = f"{where} {why}"

    @property
    def reprcrash(self) -> _Said:
        """Where the line of the short summary comes from."""
        return self

    def toterminal(self, writer: TerminalWriter) -> None:
        """Show it."""
        writer.line(self._whole, red=True)

    def __str__(self) -> str:
        return self._whole
