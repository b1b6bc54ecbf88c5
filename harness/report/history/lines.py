"""A history as lines for a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from harness.evidence.values import Kind
from harness.report.comparison.lines import cut
from harness.report.history.changes import What, by_session, spread
from harness.report.history.flakes import FLAKE, flaky, state
from harness.report.history.numbers import durations, numbers
from harness.report.page import GLYPHS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.report.history.changes import Change
    from harness.report.history.flakes import Flakiness
    from harness.report.history.model import Course, History, Line, Session

# Of a long history the newest runs are drawn.
DRAWN = 40
# So many tests are listed under a heading, and so many changes of a session.
LISTED, CHANGES = 20, 12
FLAKED = "~"


def of_history(history: History, *, every: bool = False) -> Iterator[str]:
    """For each line of kernels what flakes and what changed when; `every` lists every test and its numbers."""
    newest = max(session.began for session in history.sessions)
    for line in history.lines:
        yield from _line(line, newest, every)
        yield ""
    sessions = len(history.sessions)
    first, last = (day(session.began) for session in (history.sessions[0], history.sessions[-1]))
    kernels = ", ".join(line.name for line in history.lines)
    yield f"{_many(sessions, 'run')} from {first} to {last}, {_many(len(history.claims), 'claim')}, Linux {kernels}"


def _line(line: Line, newest: float, every: bool) -> Iterator[str]:
    kernels = line.kernels if len(line.kernels) < 3 else [line.kernels[0], "…", line.kernels[-1]]
    always = sum(bool(test.always) for test in line.tests)
    yield f"Linux {line.name}: {_many(len(line.sessions), 'run')} on {', '.join(kernels)}"
    yield f"  {_many(len(line.tests), 'test')}: {always} always said the same, {len(line.tests) - always} did not"
    yield from _flaky(flaky(line, newest), every)
    yield from _changes(line, every)
    if every:
        yield from _tests(line)


def _flaky(listed: Sequence[Flakiness], every: bool) -> Iterator[str]:
    if not listed:
        return
    yield f"  flaky ({len(listed)}), by flips; {FLAKED} failed, and passed when it was run again"
    shown = listed if every else listed[:LISTED]
    width = max(len(name_of(each.test)) for each in shown)
    for each in shown:
        weeks = " ".join(map(str, each.flakes))
        flakes = f", flakes by week, newest first: {weeks}" if any(each.flakes) else ""
        also = f"{_many(each.flips, 'flip')}, {_many(each.streak, 'pass', 'passes')} since{flakes}"
        yield f"    {name_of(each.test):<{width}}  {strip(each.test)}  {also}"
    yield from _more(len(listed) - len(shown))


def _changes(line: Line, every: bool) -> Iterator[str]:
    before: Session | None = None
    for session, found in by_session(line):
        if before is None:
            yield "  what changed when"
        before = session
        yield f"    {moment(session.began)}  {session.kernel.version}  {session.place}"
        shown = found if every else found[:CHANGES]
        yield from (f"      {_change(change)}" for change in shown)
        yield from (f"  {line}" for line in _more(len(found) - len(shown)))
    if before is None and len(line.sessions) > 1:
        yield "  nothing changed from run to run"


def _change(change: Change) -> str:
    if not change.claim:
        return change.says
    of = "duration of " if change.what is What.DURATION else ""
    says = change.says.removeprefix("duration: ")
    return f"{of}{change.claim} {change.test}: {says}"


def _tests(line: Line) -> Iterator[str]:
    """Every test: its runs, what it says now, how long it takes, its numbers."""
    yield "  every test: its runs from the oldest to the newest, the newest verdict, the median duration and its spread"
    width = max((len(name_of(test)) for test in line.tests), default=0)
    for test in line.tests:
        lasting = durations(test)
        took = f"{lasting.median:.3g} s ({spread(round(lasting.low, 3), round(lasting.high, 3))})"
        yield f"    {name_of(test):<{width}}  {strip(test)}  {test.last.said}, {took}"
        for each in numbers(test):
            unit = each.unit or {Kind.SECONDS: "s", Kind.BYTES: "bytes"}.get(each.kind, "")
            yield f"      {cut(f'{each.place}: {each.what}')}: {spread(each.low, each.high, unit)}"


def strip(test: Course) -> str:
    """The runs of a test, a sign for each, from the oldest to the newest; a point where it was not run."""
    signs = ["·" if run is None else FLAKED if state(run) == FLAKE else GLYPHS[run.said] for run in test.runs]
    return ("…" if len(signs) > DRAWN else "") + "".join(signs[-DRAWN:])


def name_of(test: Course) -> str:
    """The claim and the test."""
    return f"{test.claim} {test.name}"


def moment(seconds: float) -> str:
    """A time of day, UTC, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))


def day(seconds: float) -> str:
    """A day, UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _many(number: int, word: str, words: str = "") -> str:
    return f"{number} {word if number == 1 else words or word + 's'}"


def _more(number: int) -> Iterator[str]:
    if number > 0:
        yield f"    … {number} more (--all)"
