"""The ways to compare two sides, and to show what came out: as lines, as JSON, as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from harness.report.comparison import lines as written
from harness.report.comparison.changes import Changes, changes
from harness.report.comparison.exact import Exact, exact
from harness.report.comparison.verdicts import Verdicts, verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.report.comparison.sides import Sides

Answer = Changes | Exact | Verdicts
MODES: dict[str, Callable[[Sides], Answer]] = {"changes": changes, "exact": exact, "verdicts": verdicts}


class Document(msgspec.Struct):
    """A comparison for programs: an answer for each pair of kernels, and what did not run, a line each."""

    mode: str
    same: bool
    pairs: list[Answer]
    missing: list[str]


def compare(mode: str, sides: Sides) -> Answer:
    """Compare two sides in one of MODES."""
    return MODES[mode](sides)


def emptiness(answer: Answer) -> str:
    """A line if nothing was compared, whatever else is the same; "" if something was."""
    if answer.compared:
        return ""
    also = f": {answer.empty} tests came to nothing on either side" if answer.empty else ""
    return f"nothing was compared{also}"


def lines(answer: Answer, *, every: bool = False) -> Iterator[str]:
    """An answer for a terminal; `every` lists all differences."""
    if isinstance(answer, Changes):
        return written.of_changes(answer)
    if isinstance(answer, Exact):
        return written.of_exact(answer, None if every else written.DIFFERENCES_SHOWN)
    return written.of_verdicts(answer)


def as_json(answers: Sequence[Answer], missing: Sequence[str]) -> str:
    """Answers for programs."""
    mode = next(name for name, kind in (("exact", Exact), ("verdicts", Verdicts), ("changes", Changes))
                if isinstance(answers[0], kind))  # fmt: skip
    same = not missing and all(answer.same for answer in answers)
    document = Document(mode, same, list(answers), list(missing))
    return msgspec.json.format(msgspec.json.encode(document), indent=1).decode() + "\n"


def page(answer: Answer, missing: Sequence[str]) -> str:
    """What changed, as a page."""
    from harness.report.comparison.page import render

    assert isinstance(answer, Changes)
    return render(answer, missing)
