"""A history as a page: one HTML file that needs nothing else, no script either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from harness.evidence.values import Kind
from harness.report.history.changes import by_session, spread
from harness.report.history.flakes import FLAKE, flakiness, flaky, state
from harness.report.history.lines import day, moment
from harness.report.history.model import said_by
from harness.report.history.numbers import durations, numbers
from harness.report.page import templates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.evidence.types import Claim
    from harness.report.history.changes import Change
    from harness.report.history.flakes import Flakiness
    from harness.report.history.model import Course, History, Line, Session
    from harness.report.history.numbers import Numbers

# Of a long history the newest runs are drawn, the others are in the numbers.
DRAWN = 60
# A number's course, in units of the page's own.
WIDTH, HEIGHT = 120, 18


@dataclass(frozen=True)
class RunView:
    """A run as a sign of the strip: what it said, whether it flaked, and when and where it was."""

    said: str
    flaked: bool
    title: str


@dataclass(frozen=True)
class NumberView:
    """A number: where it is measured, what it is, its spread, the newest value, its course as a picture."""

    place: str
    what: str
    low: str
    median: str
    high: str
    newest: str
    course: Markup


@dataclass(frozen=True)
class TestView:
    """A test of a claim: its runs, how steady it is, how long it takes, its numbers."""

    claim: str
    name: str
    runs: list[RunView | None]
    left_out: int
    flakiness: Flakiness
    duration: NumberView
    numbers: list[NumberView]


@dataclass(frozen=True)
class ClaimView:
    """A claim on a line of kernels: what its newest runs say, and its tests."""

    claim: Claim
    said: str
    tests: list[TestView]

    @property
    def flips(self) -> int:
        """How often the test that flipped most did."""
        return max(test.flakiness.flips for test in self.tests)


@dataclass(frozen=True)
class LineView:
    """A line of kernels."""

    line: Line
    claims: list[ClaimView]
    flaky: list[TestView]
    changes: list[tuple[Session, list[Change]]]


def render(history: History) -> str:
    """The whole page."""
    newest = history.sessions[-1].began
    lines = [_line(line, history, newest) for line in history.lines]
    cells = {(view.line.name, each.claim.name): each for view in lines for each in view.claims}
    first, last = history.sessions[0], history.sessions[-1]
    title = f"History of TCP on Linux {', '.join(line.name for line in history.lines)}"
    return templates().get_template("history.html.jinja").render(
        title=title, history=history, lines=lines, cells=cells, first=day(first.began), last=day(last.began),
        moment=moment,
    )  # fmt: skip


def _line(line: Line, history: History, newest: float) -> LineView:
    claims = [
        ClaimView(history.claims[name], said_by(tests), [_test(test, line, newest) for test in tests])
        for name, tests in line.claims().items()
    ]
    views = {(test.claim, test.name): test for each in claims for test in each.tests}
    unsteady = [views[each.test.claim, each.test.name] for each in flaky(line, newest)]
    return LineView(line, claims, unsteady, list(by_session(line)))


def _test(test: Course, line: Line, newest: float) -> TestView:
    runs = [
        None
        if run is None
        else RunView(run.said, state(run) == FLAKE, f"{moment(session.began)} {session.kernel.version}: {run.said}")
        for run, session in zip(test.runs, line.sessions, strict=True)
    ]
    return TestView(
        test.claim,
        test.name,
        runs[-DRAWN:],
        max(0, len(runs) - DRAWN),
        flakiness(test, line, newest),
        _number(durations(test)),
        [_number(each) for each in numbers(test)],
    )


def _number(each: Numbers) -> NumberView:
    unit = each.unit or {Kind.SECONDS: "s", Kind.BYTES: "bytes"}.get(each.kind, "")
    low, median, high, newest = (
        spread(value, value, unit) for value in (each.low, each.median, each.high, each.known[-1])
    )
    return NumberView(each.place, each.what, low, median, high, newest, picture(each.values))


def picture(values: Sequence[float | None]) -> Markup:
    """The newest values as a small picture; "" where they are fewer than three, or all the same."""
    drawn = [(number, value) for number, value in enumerate(values[-DRAWN:]) if value is not None]
    known = [value for _, value in drawn]
    if len(known) < 3 or min(known) == max(known):
        return Markup("")
    wide = max(1, min(len(values), DRAWN) - 1)
    high, span = max(known), max(known) - min(known)
    points = " ".join(
        f"{number * WIDTH / wide:.1f},{1 + (high - value) / span * (HEIGHT - 2):.1f}" for number, value in drawn
    )
    return Markup(
        f'<svg class="course" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" aria-hidden="true">'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.4"/></svg>'
    )
