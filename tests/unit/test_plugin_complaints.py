"""Whose the kernel's complaints are: of the test that runs, of one that has ended, in this process and in a worker.

The kernel's log is a file here; tests/vm has a real one.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from harness.observe.complaints import Complaint
from harness.observe.kernel_log import kernel_log
from harness.plugin import complaints
from harness.plugin.complaints import Begun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest_plugins = ["pytester"]

# What pytest_configure() of the plugin does in a kernel of our own, with a log that tests can write.
CONFTEST = """
from pathlib import Path
import pytest
from harness.observe.kernel_log import Record
from harness.plugin import complaints

pytest_plugins = ["harness.plugin"]
LOG = Path(__file__).with_name("log")

class Log:
    def records(self):
        lines = LOG.read_text().splitlines() if LOG.exists() else []
        return [Record(number, 10.0 * number, 4, line) for number, line in enumerate(lines)]

@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    config.stash[complaints.WATCH] = complaints.Watch(Log())

def logs(line):
    with LOG.open("a") as log:
        log.write(line + "\\n")
"""

SCENARIO = """
import os
import subprocess
import time
import pytest
from conftest import logs
from harness.waiting import until

def ticks():
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))

@pytest.fixture(scope="module")
def task():
    started = []
    yield started
    for program in started:
        program.kill()
        program.wait()

def test_first():
    pass

def test_starts_a_task(task):
    # It is known in ticks when a process was started, and the next tests begin in the same one.
    now = ticks()
    until(lambda: ticks() > now, what="another tick")
    task.append(subprocess.Popen(["sleep", "1000"]))

def test_warns():
    logs("WARNING: CPU: 0 PID: 1 at net/ipv4/tcp.c:1 tcp_close+0x1/0x2")

def test_runs_when_the_task_is_found(task):
    logs(f"INFO: task sleep:{task[0].pid} blocked for more than 120 seconds.")

def test_last():
    pass
"""


@pytest.mark.parametrize("workers", ["0", "1"])
def test_each_complaint_is_that_of_its_test(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult], workers: str
) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_scenario=SCENARIO)
    ran = session("-n", workers, "-p", "no:randomly", "--junitxml", "r.xml", "-rA")
    ran.assert_outcomes(passed=4, failed=1, errors=1)
    # Before pytest 9 the line of an error ends with the name.
    said_behind = " - the kernel complained (hung task*" if pytest.version_tuple >= (9,) else ""
    ran.stdout.fnmatch_lines_random(
        [
            "FAILED test_scenario.py::test_warns - *the kernel complained (WARN*",
            f"ERROR test_scenario.py::test_starts_a_task{said_behind}",
            "PASSED test_scenario.py::test_runs_when_the_task_is_found",
            "PASSED test_scenario.py::test_last",
        ]
    )
    cases = {case.get("name"): case for case in ET.parse(pytester.path / "r.xml").iter("testcase")}
    wrong = {name for name, case in cases.items() if case.find("failure") is not None or case.find("error") is not None}
    assert wrong == {"test_warns", "test_starts_a_task"}


@pytest.fixture
def task() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits."""
    with subprocess.Popen(["sleep", "1000"]) as started:
        yield started
        started.kill()


def test_of_tests_that_began_within_a_tick_the_numbers_of_processes_tell(task: subprocess.Popen[bytes]) -> None:
    """In simulated time a test is over within a tick, and the next one is not to blame for its process."""
    tick = complaints._started(task.pid)
    assert tick is not None
    since, until = tick
    assert until - since == pytest.approx(0.01)
    watch = complaints.Watch(kernel_log())
    watch.begun = [
        Begun(name, (name, None, name), at, process)
        for name, at, process in (
            ("before", since - 1, task.pid + 5),  # numbers begin anew when they have run out
            ("just before", since + 0.002, task.pid - 2),
            ("its own", since + 0.004, task.pid - 1),
            ("the next", since + 0.006, task.pid),
            ("another", until + 0.001, task.pid),
        )
    ]
    headline = f"INFO: task sleep:{task.pid} blocked for more than 120 seconds."
    found = Complaint("hung task", headline, (headline,), until + 130)
    assert watch.owner(found).nodeid == "its own"
    task.kill()
    task.wait()
    # Of a process that is gone nothing is known.
    assert watch.owner(found).nodeid == "another"
