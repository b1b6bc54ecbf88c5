"""A claim whose test is run again, by pytest-rerunfailures, begins anew: nothing of an earlier attempt is mixed in."""

from __future__ import annotations

import json
import os
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
        results = ("--ktap", "r.ktap", "--kcidb", "r.json", "--report", "r.html", "--junitxml", "r.xml")
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
    assert [sorted(name for name, _ in properties) for properties in told] == [["claim", "kernel", "verdict"]] * 3
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
