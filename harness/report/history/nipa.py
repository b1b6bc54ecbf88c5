"""A history as JSON for programs, in the names of NIPA, the CI of Linux's network developers.

schema      1
results     what NIPA's `query/results` gives: [{executor, branch, remote, start, end, link, results}], an entry a
            session and kernel, the newest first. `branch` is the kernel and when the session began, as NIPA ends the
            names of its branches; `executor` the line of kernels; `remote` whoever ran it. `results` are claims:
            [{test, group, result, link, time, retry, crashes, results}], and within one the same of its tests, by
            which NIPA's results of a test's cases are meant. `result` is that of the first attempt: pass, fail or
            skip; `retry` that of the last, where there was another. `time` is in seconds.
flaky       what `query/flaky-tests` gives: [{remote, executor, test, count}], `count` by week, newest first
stability   what `query/stability` gives: [{remote, executor, grp, test, subtest, pass_cnt, fail_cnt, pass_srk,
            fail_srk, pass_cur, fail_cur, passing, last_update}]; as there, what is skipped has not passed
flips       what NIPA's page of flakes reckons of each test: [{remote, executor, group, test, subtest, cnt, streak,
            total}]
numbers     ours: [{executor, group, test, subtest, place, what, kind, unit, values, low, median, high}], `values`
            by session of that executor, the oldest first, null where it was not measured; a duration has no place
changes     ours: [{executor, branch, what, group, test, subtest, before, after, says}]
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from harness.evidence.moved import moved
from harness.report.history import flakes
from harness.report.history.changes import changes
from harness.report.history.model import TIMES, attempts, crash_of
from harness.report.history.numbers import durations, numbers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.evidence.types import Run
    from harness.report.history.model import Course, History, Line

SCHEMA = 1
REMOTE = "tcp-harness"


class CaseResult(msgspec.Struct, omit_defaults=True):
    """A test of a claim; `comment` is ours: the number that moved."""

    test: str
    result: str
    time: float
    retry: str | None = None
    comment: str = ""


class TestResult(msgspec.Struct, omit_defaults=True):
    """A claim in a session."""

    test: str
    group: str
    result: str
    link: str
    time: float
    results: list[CaseResult]
    retry: str | None = None
    crashes: list[str] | None = None


class SessionResult(msgspec.Struct):
    """A session on a kernel."""

    executor: str
    branch: str
    remote: str
    start: str
    end: str
    link: str
    results: list[TestResult]


class FlakyTest(msgspec.Struct):
    """A claim that flaked in the last four weeks."""

    remote: str
    executor: str
    test: str
    count: list[int]


class StableTest(msgspec.Struct):
    """How often and how long in a row a claim (no `subtest`) or a test of it passed."""

    remote: str
    executor: str
    grp: str
    test: str
    subtest: str | None
    pass_cnt: int
    fail_cnt: int
    pass_srk: int
    fail_srk: int
    pass_cur: int
    fail_cur: int
    passing: str | None
    last_update: str


class Flips(msgspec.Struct):
    """How often the result of a test was another than in the run before."""

    remote: str
    executor: str
    group: str
    test: str
    subtest: str
    cnt: int
    streak: int
    total: int


class NumberSeries(msgspec.Struct):
    """A number through the sessions of an executor."""

    executor: str
    group: str
    test: str
    subtest: str
    place: str
    what: str
    kind: str
    unit: str
    values: list[float | None]
    low: float
    median: float
    high: float


class ChangeTold(msgspec.Struct):
    """What was not so in the run before."""

    executor: str
    branch: str
    what: str
    group: str
    test: str
    subtest: str
    before: str
    after: str
    says: str


class Document(msgspec.Struct):
    """All of it."""

    schema: int
    results: list[SessionResult]
    flaky: list[FlakyTest]
    stability: list[StableTest]
    flips: list[Flips]
    numbers: list[NumberSeries]
    changes: list[ChangeTold]
    notices: list[str]


def write(history: History, remote: str = REMOTE, url: str = "") -> str:
    """A history as text; `remote` is who ran it, `url` where the evidence is published, which links begin with."""
    return msgspec.json.format(msgspec.json.encode(document(history, remote, url)), indent=1).decode() + "\n"


def document(history: History, remote: str = REMOTE, url: str = "") -> Document:
    """A history as data."""
    newest = max(session.began for session in history.sessions)
    whole = Document(SCHEMA, [], [], [], [], [], [], list(history.notices))
    for line in history.lines:
        executor = _Executor(line, remote, url, newest)
        whole.results += executor.results()
        for name, tests in line.claims().items():
            whole.flaky += executor.flaky(name, tests)
            whole.stability += executor.stability(name, tests)
            whole.flips += executor.flips(name, tests)
            whole.numbers += executor.numbers(name, tests)
        whole.changes += executor.changes()
    whole.results.sort(key=lambda each: each.start, reverse=True)
    return whole


class _Executor:
    """A line of kernels as NIPA has an executor; `newest` is when the newest session of all began."""

    def __init__(self, line: Line, remote: str, url: str, newest: float) -> None:
        self.name = f"{REMOTE}-{line.name}"
        self._line, self._remote, self._url, self._newest = line, remote, url, newest
        self._branches = _branches(line)

    def results(self) -> Iterator[SessionResult]:
        """An entry for each session."""
        for number, (session, branch) in enumerate(zip(self._line.sessions, self._branches, strict=True)):
            claims = [
                _claim(name, self._link(made[0][0].files[number]), made)
                for name, tests in self._line.claims().items()
                if (made := _made(tests, number))
            ]
            start, end = str(_time(session.began)), str(_time(session.ended))
            yield SessionResult(self.name, branch, self._remote, start, end, self._link(session.place), claims)

    def flaky(self, claim: str, tests: Sequence[Course]) -> Iterator[FlakyTest]:
        """The claim, if it flaked in the last four weeks."""
        flaked = (number for number in range(len(self._line.sessions)) if _flaked(_made(tests, number)))
        weeks = flakes.by_week(flaked, self._line, self._newest)
        if any(weeks):
            yield FlakyTest(self._remote, self.name, _apart(claim)[1], list(weeks))

    def stability(self, claim: str, tests: Sequence[Course]) -> Iterator[StableTest]:
        """A row for the claim, which passes where each of its tests does, and for each test."""
        whole: dict[int, bool] = {}
        by_test: dict[str, dict[int, bool]] = {}
        for test in tests:
            for number, run in test.seen:
                passed = flakes.first_result(run) == flakes.PASS
                by_test.setdefault(test.name, {})[number] = passed
                whole[number] = whole.get(number, True) and passed
        yield self._stable(claim, None, dict(sorted(whole.items())))
        for name, passes in by_test.items():
            yield self._stable(claim, name, passes)

    def _stable(self, claim: str, subtest: str | None, passes: dict[int, bool]) -> StableTest:
        times = [self._line.sessions[number].began for number in passes]
        stable = flakes.stability(list(passes.values()), times)
        since = None if stable.passing is None else _time(stable.passing).isoformat()
        return StableTest(
            self._remote, self.name, *_apart(claim), subtest, stable.passed, stable.failed, *stable.longest,
            *stable.present, since, _time(times[-1]).isoformat(),
        )  # fmt: skip

    def flips(self, claim: str, tests: Sequence[Course]) -> Iterator[Flips]:
        """How often each test's result changed."""
        for test in tests:
            counted = flakes.flakiness(test, self._line, self._newest)
            yield Flips(
                self._remote, self.name, *_apart(claim), test.name, counted.flips, counted.streak, counted.runs
            )  # fmt: skip

    def numbers(self, claim: str, tests: Sequence[Course]) -> Iterator[NumberSeries]:
        """The duration of each test, and what it measures."""
        for test in tests:
            for each in (durations(test), *numbers(test)):
                yield NumberSeries(
                    self.name, *_apart(claim), test.name, each.place, each.what, str(each.kind), each.unit,
                    list(each.values), each.low, each.median, each.high,
                )  # fmt: skip

    def changes(self) -> Iterator[ChangeTold]:
        """What changed from session to session."""
        for each in changes(self._line):
            yield ChangeTold(
                self.name, self._branches[each.at], each.what, *_apart(each.claim), each.test, each.before, each.after,
                each.says,
            )  # fmt: skip

    def _link(self, file: str) -> str:
        return f"{self._url.rstrip('/')}/{file}" if self._url else file


def _branches(line: Line) -> list[str]:
    """The name of each session: its kernel, and when it began; NIPA takes the last 17 letters for that."""
    names: list[str] = []
    for session in line.sessions:
        kernel, when = _namified(f"linux-{session.kernel.release}"), f"{_time(session.began):%Y-%m-%d--%H-%M}"
        name = f"{kernel}-{when}"
        if name in names:  # two kernels of one release, or two sessions in a minute
            name = f"{kernel}-{_namified(session.kernel_name) or len(names)}-{when}"
        names.append(name if name not in names else f"{kernel}-{len(names)}-{when}")
    return names


def _made(tests: Sequence[Course], number: int) -> list[tuple[Course, Run]]:
    """The runs of tests in a session."""
    return [(test, run) for test in tests if (run := test.runs[number]) is not None]


def _claim(name: str, link: str, made: Sequence[tuple[Course, Run]]) -> TestResult:
    cases = [_case(test, run) for test, run in made]
    first, last = _came_to(made)
    crashes = [crash for _, run in made for attempt in attempts(run) if (crash := crash_of(attempt))]
    group, test = _apart(name)
    return TestResult(
        test, group, first, link, round(sum(case.time for case in cases), 3), cases, last, crashes or None
    )


def _case(test: Course, run: Run) -> CaseResult:
    first = next(attempts(run))
    return CaseResult(test.name, flakes.result(first), first.duration, flakes.retry(run), moved(first))


def _came_to(made: Sequence[tuple[Course, Run]]) -> tuple[str, str | None]:
    """What the tests of a claim came to at first, and at last where some were run again."""
    pairs = [(flakes.first_result(run), flakes.retry(run)) for _, run in made]
    first = _together([result for result, _ in pairs])
    return first, _together([retry or result for result, retry in pairs]) if any(retry for _, retry in pairs) else None


def _flaked(made: Sequence[tuple[Course, Run]]) -> bool:
    """Whether the tests of a claim failed first, all passed when they were run again, and nothing crashed."""
    crashed = any(crash_of(attempt) for _, run in made for attempt in attempts(run))
    return bool(made) and _came_to(made) == (flakes.FAIL, flakes.PASS) and not crashed


def _together(results: Sequence[str]) -> str:
    """What several tests come to: fail if one fails, skip if all are skipped."""
    return next(each for each in (flakes.FAIL, flakes.PASS, flakes.SKIP) if each in results)


def _apart(claim: str) -> tuple[str, str]:
    """A claim's group and id."""
    group, _, name = claim.partition(".")
    return group, name


def _time(seconds: float) -> datetime:
    known = seconds if TIMES.start <= seconds < TIMES.stop else 0.0
    return datetime.fromtimestamp(known, UTC)


def _namified(what: str) -> str:
    """As NIPA writes names: letters, digits and hyphens; and the points of a kernel's version."""
    return re.sub(r"[^0-9a-zA-Z.]+", "-", what).strip("-")
