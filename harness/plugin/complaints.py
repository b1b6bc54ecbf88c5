"""What the kernel complains of while a test runs fails that test, and no other.

Only in a kernel of our own, and where one worker alone uses it: elsewhere nobody knows whose doing it was. A complaint
that comes late (a hung task is found after two minutes) is that of the test which started the process.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import pytest

from harness.errors import Forbidden, KernelComplained, Unsupported
from harness.plugin import beside, kernels, witness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.observe.complaints import Complaint
    from harness.observe.kernel_log import KernelLog

TITLE = "complaint of the kernel"
SAID = "the kernel complained ("


class Begun(NamedTuple):
    """A test, and when it began, in seconds since boot; the kernel had last given out the number `process`."""

    nodeid: str
    location: tuple[str, int | None, str]
    at: float
    process: int

    def had_begun(self, process: int, tick: tuple[float, float]) -> bool:
        """Whether it had when a process was started, in this tick: of those that began within it numbers tell."""
        since, until = tick
        return self.at <= since or (self.at <= until and self.process < process)


class Watch:
    """The kernel's log from the session's beginning on, and which tests have begun."""

    def __init__(self, log: KernelLog) -> None:
        from harness.observe.complaints import taint

        self._log = log
        self._read = 0
        self._taint = taint()
        self.begun: list[Begun] = []
        # Of tests that had ended when the kernel complained; they go with the next report.
        self.belated: list[pytest.TestReport] = []

    def begin(self, item: pytest.Item) -> None:
        """A test begins."""
        self.begun.append(Begun(item.nodeid, item.location, _now(), _last_process()))

    def new(self) -> list[Complaint]:
        """What the kernel has complained of since this was asked last."""
        from harness.observe.complaints import Complaint, complaints_in, letters, taint

        records = self._log.records()
        found, self._read = complaints_in(records[self._read :]), len(records)
        before, self._taint = self._taint, taint()
        if (risen := self._taint & ~before) and not found:
            line = f"the kernel has become tainted: {letters(risen)}"
            found.append(Complaint("taint", line, (line,), _now()))
        return found

    def owner(self, complaint: Complaint) -> Begun:
        """The test whose complaint it is: of a hung task that which started the process, or else the last begun."""
        task = complaint.task
        tick = _started(task) if task is not None else None
        if task is None or tick is None:
            return self.begun[-1]
        earlier = [test for test in self.begun if test.had_begun(task, tick)]
        return earlier[-1] if earlier else self.begun[-1]


WATCH = pytest.StashKey[Watch]()


def begin(config: pytest.Config) -> None:
    """Watch the kernel's log from now on, where the kernel is ours and shows it."""
    from harness.lab import machine
    from harness.observe import kernel_log

    if not machine.is_ours() or config.getoption("collectonly") or _has_company(config):
        return
    log = kernel_log()
    with suppress(Forbidden, Unsupported):
        log.__enter__()
        config.add_cleanup(lambda: log.__exit__(None, None, None))
        config.stash[WATCH] = Watch(log)


def _has_company(config: pytest.Config) -> bool:
    """Whether other workers run tests on the same kernel: then nobody knows which test provoked what."""
    import os

    return kernels.kernel_of(config) is None and int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1


def begin_test(item: pytest.Item) -> None:
    """A test begins: what came since the one before it was that one's."""
    watch = item.config.stash.get(WATCH, None)
    if watch is None:
        return
    if watch.begun:
        _note_belated(watch, watch.new())
    else:
        watch.new()
    watch.begin(item)


def attach(item: pytest.Item, report: pytest.TestReport) -> None:
    """Errors of tests that have ended come with the report of the one that runs; what was said is kept."""
    watch = item.config.stash.get(WATCH, None)
    if watch is None:
        return
    if report.failed and report.longreprtext.startswith(SAID) and not witness.is_kept(report):
        witness.attach_complaint(item.config, report, report.longreprtext)
    for belated in watch.belated:
        witness.attach_complaint(item.config, belated, belated.longreprtext)
    beside.add(item.config, report, watch.belated)
    watch.belated = []


@contextmanager
def fail(item: pytest.Item, when: Literal["call", "teardown"]) -> Iterator[None]:
    """Around a part of a test: it fails where the kernel complained meanwhile, and a failure shows the complaint."""
    watch = item.config.stash.get(WATCH, None)
    if watch is None:
        yield
        return
    failed = True
    try:
        yield
        failed = False
    finally:
        theirs = _own(item, watch)
        if theirs and not failed:
            raise KernelComplained("\n".join([_said(theirs), *map(str, theirs)]))
        for complaint in theirs:
            item.add_report_section(when, TITLE, str(complaint))


@contextmanager
def plainly() -> Iterator[None]:
    """Around that: the failure is what the kernel said, without the lines of ours that found it."""
    try:
        yield
    except KernelComplained as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


def _own(item: pytest.Item, watch: Watch) -> list[Complaint]:
    """Of what came meanwhile that which this test has provoked; tests before it are told of theirs."""
    found = watch.new()
    own = [complaint for complaint in found if watch.owner(complaint).nodeid == item.nodeid]
    _note_belated(watch, [complaint for complaint in found if complaint not in own])
    return own


def _note_belated(watch: Watch, found: list[Complaint]) -> None:
    """Note errors of tests that have ended already."""
    for complaint in found:
        test = watch.owner(complaint)
        said = f"{_said([complaint])}\n{complaint}"
        watch.belated.append(pytest.TestReport(test.nodeid, test.location, {}, "failed", said, "teardown"))


def _said(found: list[Complaint]) -> str:
    return "; ".join(f"{SAID}{each.kind}): {each.headline}" for each in found)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _last_process() -> int:
    """The number that the kernel gave to a process or thread last; proc(5), the last field of loadavg."""
    try:
        return int(Path("/proc/loadavg").read_text().split()[-1])
    except (OSError, ValueError):
        return 0


def _started(process: int) -> tuple[float, float] | None:
    """The tick in which a process was started, in seconds since boot; None if it is gone.

    proc(5), field 22 of stat, is no finer. In simulated time many a test begins and ends within a tick.
    """
    import os

    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    ticks, a_second = int(fields[19]), os.sysconf("SC_CLK_TCK")
    return ticks / a_second, (ticks + 1) / a_second
