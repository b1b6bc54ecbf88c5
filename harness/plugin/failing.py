"""How pytest shows a failure: a line of ours before all that it shows itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from _pytest._code.code import ExceptionChainRepr, ReprEntryNative, ReprFileLocation, ReprTraceback

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest


def begin_with(report: pytest.TestReport, line: str) -> None:
    """Let a failure begin with a line: what is shown of it, its line in the short summary, and JUnit's message.

    It travels from a worker with the rest, because it is made of what pytest itself shows errors with.
    """
    shown = report.longrepr
    if not line or not isinstance(shown, ExceptionChainRepr):
        return
    # Of several exceptions, each the cause of the next, the first is shown first.
    first, _, _ = shown.chain[0]
    first.reprentries = [ReprEntryNative([f"{line}\n"]), *first.reprentries]
    if shown.reprcrash is not None:
        shown.reprcrash.message = f"{line}\n{shown.reprcrash.message}"


def plainly(file: Path | str, number: int, line: str, more: Sequence[str]) -> ExceptionChainRepr:
    """A failure of something that is not Python, in a file at a line: a line of ours, and more lines as they are.

    It travels from a worker, and the first line is JUnit's message and that of the short summary.
    """
    shown = ReprTraceback([ReprEntryNative([f"{one}\n" for one in (line, *more)])], None, "native")
    return ExceptionChainRepr([(shown, ReprFileLocation(str(file), number, line), None)])
