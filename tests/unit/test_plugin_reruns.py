"""A claim whose test is run again, by pytest-rerunfailures, begins anew: nothing of an earlier attempt is mixed in."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from harness.evidence import codec
from tests import plugins
from tests.claim_file import claim_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.evidence.types import Run

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.skipif(bool(plugins.MISSING), reason=plugins.MISSING)

# Each attempt takes the next number of a file; eleven is right.
SCENARIO = """
from pathlib import Path
import pytest

NUMBERS = Path(__file__).with_name("numbers")

@pytest.fixture
def number():
    first, *rest = NUMBERS.read_text().split()
    NUMBERS.write_text(" ".join(rest))
    if first == "broken":
        raise RuntimeError("no number")
    return int(first)

@pytest.mark.claim("queue.limit")
def test_limit(claim, number):
    with claim.effect("nobody accepts") as effect:
        effect.compare("waiting", number, document=10, kernel=11)
    with claim.control("accepted at once") as control:
        control.expect("overflows", 0, 0)
"""


@pytest.fixture
def attempts(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., pytest.RunResult]:
    """`attempts("9 11", …)`: run the scenario, whose attempts measure these."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(plugins.DIRECTORY), os.environ["PYTHONPATH"]]))

    def run(numbers: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(test_scenario=SCENARIO)
        pytester.mkdir("claims").joinpath("queue.toml").write_text(claim_file())
        (pytester.path / "numbers").write_text(numbers)
        results = ("--tcp-ktap", "r.ktap", "--tcp-kcidb", "r.json", "--tcp-report", "r.html", "--junitxml", "r.xml")
        return session("-p", "no:randomly", "--reruns", "2", *results, *options)

    return run


def kept(pytester: pytest.Pytester) -> Run:
    """The one run of the evidence."""
    (run,) = codec.read(pytester.path / "out" / "evidence" / "queue.limit.json").runs
    return run


def measured(run: Run) -> list[object]:
    return [comparison.measured.plain() for phase in run.phases for comparison in phase.comparisons]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_claim_that_comes_out_when_it_is_run_again_is_flaky(
    attempts: Callable[..., pytest.RunResult], pytester: pytest.Pytester, workers: str
) -> None:
    ran = attempts("77 9 11", "-n", workers)
    assert ran.ret == pytest.ExitCode.OK, ran.stdout.str()
    ran.stdout.fnmatch_lines(
        [
            "refuted (1)",
            "flaky (1)",
            "  queue.limit",
            "      attempt 1 of 3, unexplained: waiting: 77, must be 11",
            "      attempt 2 of 3, unexplained: waiting: 9, must be 11",
            "1 claim: 1 refuted; 1 flaky",
        ]
    )
    run = kept(pytester)
    assert (run.said, run.is_flaky, measured(run)) == ("refuted", True, [11, 0])
    assert [(one.said, measured(one)) for one in run.earlier] == [("unexplained", [77, 0]), ("unexplained", [9, 0])]
    # Each attempt is a case of its own in JUnit's XML; none has the properties of another.
    told = [
        {(each.attrib["name"], each.attrib["value"]) for each in case.iter("property")}
        for case in ET.parse(pytester.path / "r.xml").getroot().iter("testcase")
    ]
    # Before pytest 9 one case has them all.
    cases = 3 if pytest.version_tuple >= (9,) else 1
    assert [sorted(name for name, _ in properties) for properties in told] == [["claim", "kernel", "verdict"]] * cases
    assert ("verdict", "refuted") in told[-1]
    ktap = (pytester.path / "r.ktap").read_text()
    assert "ok 1 test_limit # verdict=refuted flaky" in ktap
    assert "# attempt 1 of 3, unexplained: waiting: 77, must be 11" in ktap
    (test,) = json.loads((pytester.path / "r.json").read_text())["tests"]
    assert (test["status"], test["misc"]["attempts"]) == ("PASS", 3)


def test_a_claim_that_never_comes_out_has_failed_with_its_last_attempt(
    attempts: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    ran = attempts("77 broken 9")
    assert ran.ret == pytest.ExitCode.TESTS_FAILED
    ran.stdout.fnmatch_lines(
        [
            "unexplained (1)",
            "      attempt 1 of 3, unexplained: waiting: 77, must be 11",
            "      attempt 2 of 3, failed: RuntimeError: no number",
            "      waiting: 9, must be 11",
            "1 claim: 1 unexplained",
        ]
    )
    run = kept(pytester)
    assert (run.said, run.is_flaky, measured(run)) == ("unexplained", False, [9, 0])
    assert [one.said for one in run.earlier] == ["unexplained", "failed"]


# A worker whose 127.0.0.1 is another machine's.

CONFTEST = """
pytest_plugins = ["harness.plugin"]
from harness.kernels.targets import Remote
Remote.interpreter = lambda *_, **__: "{}"
"""
ALONE = ("unshare", "--user", "--map-root-user", "--net")
ELSEWHERE = """#!/bin/sh
export ELSEWHERE=1 PYTHONPATH={}
exec {} sh -c 'ip link set lo up && exec "$@"' sh {} "$@"
"""
LOST_ONCE = """
import os
import shlex
import subprocess
import sys

def test_lost(request):
    if "ELSEWHERE" in os.environ and request.node.execution_count == {}:
        os._exit(1)

def test_plain():
    pass
"""


def put_elsewhere(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, more: str = "") -> None:
    """The kernel `ssh:elsewhere` is a process in a network of its own, with the plugins."""
    if subprocess.run([*ALONE, "ip", "link", "set", "lo", "up"], check=False, capture_output=True).returncode:
        pytest.skip("no network namespace can be made here")
    path = os.pathsep.join([str(plugins.DIRECTORY), os.environ["PYTHONPATH"]])
    monkeypatch.setenv("PYTHONPATH", path)
    script = pytester.path / "elsewhere"
    script.write_text(ELSEWHERE.format(path, shlex.join(ALONE), sys.executable).replace("export", f"export {more}"))
    script.chmod(0o755)
    pytester.makeconftest(CONFTEST.format(script))


# The process at the terminal takes its time to note what a worker says.
SLOW = """
import threading
import pytest_rerunfailures

note = pytest_rerunfailures.ServerStatusDB._set
def note_late(*told):
    threading.Event().wait(0.5)
    note(*told)
pytest_rerunfailures.ServerStatusDB._set = note_late
"""


@pytest.mark.parametrize(("times", "outcomes"), [("1", {"passed": 4}), ("2", {"passed": 3, "failed": 1})])
def test_a_worker_elsewhere_knows_what_was_run_again(
    pytester: pytest.Pytester,
    session: Callable[..., pytest.RunResult],
    monkeypatch: pytest.MonkeyPatch,
    times: str,
    outcomes: dict[str, int],
) -> None:
    """How often a test whose worker was lost may be run again is known here, and asked for there: once."""
    put_elsewhere(pytester, monkeypatch)
    conftest = pytester.path / "conftest.py"
    conftest.write_text(conftest.read_text() + SLOW)
    pytester.makepyfile(test_lost=LOST_ONCE.format("1" if times == "1" else "request.node.execution_count"))
    ran = session("-p", "no:randomly", "--reruns", "1", "--tcp-kernel", "ssh:elsewhere", "--tcp-kernel", "running")
    assert ran.ret == (pytest.ExitCode.TESTS_FAILED if "failed" in outcomes else pytest.ExitCode.OK), ran.stdout.str()
    ran.assert_outcomes(**outcomes)
    assert "1 rerun" in ran.outlines[-1]


CLOCK_RUNS_ON = """
import time
import pytest

@pytest.fixture(autouse=True, scope="session")
def hours():
    now = time.time
    time.time = lambda: now() + 36000
    yield
    time.time = now

@pytest.mark.parametrize("n", range(3))
def test_passes(n):
    pass
"""


@pytest.mark.parametrize("seconds", ["3000", "0.0001"])
def test_a_session_ends_by_the_clock_at_the_terminal(
    pytester: pytest.Pytester,
    session: Callable[..., pytest.RunResult],
    monkeypatch: pytest.MonkeyPatch,
    seconds: str,
) -> None:
    """Between tests a machine's clock runs on by hours, where its time is simulated."""
    put_elsewhere(pytester, monkeypatch, more="TCP_HARNESS_SIMULATED_TIME=1")
    pytester.makepyfile(test_late=CLOCK_RUNS_ON)
    ran = session("-p", "no:randomly", "--session-timeout", seconds, "--tcp-kernel", "ssh:elsewhere")
    if seconds == "3000":
        assert ran.ret == pytest.ExitCode.OK, ran.stdout.str()
        ran.assert_outcomes(passed=3)
    else:
        assert ran.ret == pytest.ExitCode.TESTS_FAILED
        assert f"session-timeout: {float(seconds):g} sec exceeded" in ran.stdout.str()
