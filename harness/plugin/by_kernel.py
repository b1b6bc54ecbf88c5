"""The end of a session on several kernels: a small matrix of what differs between them, and how many came out how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.evidence.types import NOT_SETTLED, SAID, WRONG
from harness.laws.kernel import age

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest

    from harness.evidence.types import Run

# A mark for a verdict, the same as on the page and in the documentation; whatever is wrong has one for all.
MARKS = {"holds": "✓", "refuted": "✗", "not applicable": "–", NOT_SETTLED: "?"}
WRONG_MARK, NOTHING = "!", " "
COLOURS = {"✓": {"green": True}, "✗": {"cyan": True}, "?": {"yellow": True}, "!": {"red": True, "bold": True}}
# Of very many claims that differ so many are shown; the page has all.
MOST = 40


def write(terminal: pytest.TerminalReporter, runs: Mapping[str, Sequence[Run]]) -> None:
    """Write the matrix, if there are runs of claims on more than one kernel; `runs` are by the name of the claim."""
    kernels = {run.kernel.release: run.kernel.version for its_runs in runs.values() for run in its_runs}
    if len(kernels) < 2:
        return
    releases = sorted(kernels, key=lambda release: age(kernels[release], release))
    heads = _heads([kernels[release] for release in releases])
    said = {name: [_said(its_runs, release) for release in releases] for name, its_runs in runs.items()}
    rows = {name: marks for name, marks in sorted(said.items()) if _tells(marks)}
    counts = {word: [sum(each[i] == word for each in said.values()) for i in range(len(releases))] for word in SAID}
    shown = {word: numbers for word, numbers in reversed(counts.items()) if any(numbers)}
    width = max(map(len, [*shown, *list(rows)[:MOST]]))
    terminal.section("claims by kernel", sep="=")
    cells = [max(len(head), 4) for head in heads]
    terminal.write_line(f"  {'':<{width}}  " + "  ".join(f"{head:>{n}}" for head, n in zip(heads, cells, strict=True)))
    for word, numbers in shown.items():
        _line(terminal, f"{word:<{width}}", [(str(number), {}) for number in numbers], cells)
    for name, verdicts in list(rows.items())[:MOST]:
        marks = [NOTHING if each is None else MARKS.get(each, WRONG_MARK) for each in verdicts]
        _line(terminal, f"{name:<{width}}", [(mark, COLOURS.get(mark, {})) for mark in marks], cells)
    if len(rows) > MOST:
        terminal.write_line(f"  and {len(rows) - MOST} more that differ: --tcp-report PATH shows all")
    if rows:
        legend = ", ".join([*(f"{mark} {word}" for word, mark in MARKS.items()), f"{WRONG_MARK} not as expected"])
        terminal.write_line(f"  {legend}")


def _line(
    terminal: pytest.TerminalReporter, label: str, texts: Sequence[tuple[str, dict[str, bool]]], cells: Sequence[int]
) -> None:
    terminal.write(f"  {label}")
    for (text, colour), width in zip(texts, cells, strict=True):
        terminal.write("  ")
        terminal.write(f"{text:>{width}}", **colour)
    terminal.write_line("")


def _heads(versions: Sequence[str]) -> list[str]:
    """The shortest that tells the kernels apart: 6.12, or 6.12.117 where there are two of 6.12."""
    short = [".".join(version.split(".")[:2]) for version in versions]
    return short if len(set(short)) == len(short) else list(versions)


def _said(runs: Sequence[Run], release: str) -> str | None:
    """The loudest that is said of a claim on a kernel; None if it did not run there."""
    sayings = {run.said for run in runs if run.kernel.release == release}
    settled = sayings - {NOT_SETTLED} or sayings
    return next((word for word in SAID if word in settled), None)


def _tells(verdicts: Sequence[str | None]) -> bool:
    """Whether a claim came out differently on two of the kernels, or wrong on one."""
    return len({each for each in verdicts if each is not None}) > 1 or any(each in WRONG for each in verdicts)
