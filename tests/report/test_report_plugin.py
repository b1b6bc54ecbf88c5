"""--tcp-report, --tcp-ktap, --tcp-kcidb, and what JUnit says of claims; with workers, quiet, and cut short."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from harness.report.reproduce import command
from harness.report.table import read
from tests.claim_file import claim_file

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]

QUICK = ("-p", "no:hypothesispytest", "-p", "no:cacheprovider")

SCENARIO = """
import pytest
from harness.errors import Unsupported

@pytest.mark.claim("queue.limit")
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_limit(claim, family):
    with claim.effect("nobody accepts") as effect:
        effect.compare("waiting", 11, document=10, kernel=11)
    with claim.control("accepted at once") as control:
        control.expect("overflows", 0, 0)
        control.series("waiting", [(0, 1), (1, 2)])

@pytest.fixture
def absent():
    raise Unsupported("not on this kernel")

@pytest.mark.claim("queue.limit")
def test_absent(claim, absent):
    pass
"""


@pytest.fixture
def scenario(pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]) -> Callable[..., pytest.RunResult]:
    """Run a scenario beside a file with the claim queue.limit."""

    def run(*options: str, text: str = SCENARIO) -> pytest.RunResult:
        pytester.makepyfile(test_scenario=text)
        (pytester.path / "claims").mkdir(exist_ok=True)
        (pytester.path / "claims" / "queue.toml").write_text(claim_file())
        return session(*options)

    return run


@pytest.mark.parametrize("options", [(), ("-q",), ("-v",), ("-n", "2")])
def test_all_three_are_written_at_the_end(
    scenario: Callable[..., pytest.RunResult], pytester: pytest.Pytester, options: tuple[str, ...]
) -> None:
    ran = scenario("--tcp-report", "out/r.html", "--tcp-ktap", "r.ktap", "--tcp-kcidb", "r.json", *options)
    ran.assert_outcomes(passed=2, skipped=1)
    ran.stdout.fnmatch_lines(["html: out/r.html", "ktap: r.ktap", "kcidb: r.json"])
    page = (pytester.path / "out" / "r.html").read_text()
    assert 'aria-label="queue.limit on ' in page
    assert ": refuted" in page
    assert len(json.loads((pytester.path / "r.json").read_text())["tests"]) == 3


def test_a_format_whose_library_is_missing_is_named_before_anything_runs(
    scenario: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    hidden = "import sys\nsys.modules['kcidb_io'] = None\nimport importlib.util\n"
    hidden += "found = importlib.util.find_spec\n"
    hidden += "importlib.util.find_spec = lambda name, *more: None if name == 'kcidb_io' else found(name, *more)\n"
    (pytester.path / "hidden.py").write_text(hidden)
    ran = scenario("-p", "hidden", "--tcp-kcidb", "r.json")
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    assert ran.errlines[0] == "ERROR: --tcp-kcidb: KCIDB's schema needs kcidb-io; pip install 'tcp-harness[report]'"
    assert "passed" not in ran.stdout.str()


def test_the_command_of_a_run_makes_exactly_that_run_again(
    scenario: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    scenario("--tcp-evidence", "first")
    runs = [entry.run for _, _, cell in read([pytester.path / "first"]).cells() for entry in cell.entries]
    assert len(runs) == 3
    for one in runs:
        words = shlex.split(command("queue.limit", (one,)))
        again = pytester.run(sys.executable, "-m", *words, *QUICK, "--tcp-evidence", "again")
        assert sum(again.parseoutcomes().get(what, 0) for what in ("passed", "skipped")) == 1
        ((_, _, cell),) = read([pytester.path / "again"]).cells()
        assert [entry.run.nodeid for entry in cell.entries] == [one.nodeid]


def test_only_what_the_session_ran_is_reported(
    scenario: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    old = pytester.mkdir("evidence") / "queue.old.json"
    old.write_text('{"schema": 1, "harness": "0.0.1", "claim": {"name": "queue.old"}, "runs": []}')
    scenario("--tcp-evidence", "evidence", "--tcp-ktap", "r.ktap")
    assert "queue.old" not in (pytester.path / "r.ktap").read_text()


def test_an_interrupted_run_has_a_report_of_what_it_did(
    scenario: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    ran = scenario(
        "--tcp-ktap", "r.ktap", "-k", "limit", text=SCENARIO + "\ndef test_limit_end():\n    raise KeyboardInterrupt\n"
    )
    assert ran.ret == pytest.ExitCode.INTERRUPTED
    assert "ok 1 queue.limit # verdict=refuted" in (pytester.path / "r.ktap").read_text()


def test_a_failed_run_has_a_report_and_stays_failed(
    scenario: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    ran = scenario("--tcp-ktap", "r.ktap", "-k", "limit", text=SCENARIO.replace('"waiting", 11', '"waiting", 12'))
    assert ran.ret == pytest.ExitCode.TESTS_FAILED
    text = (pytester.path / "r.ktap").read_text()
    assert "not ok 1 queue.limit # verdict=unexplained" in text
    assert "measured 12" in text


def test_without_claims_there_is_nothing_to_report(
    scenario: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    ran = scenario("--tcp-report", "r.html", text="def test_plain(): pass")
    ran.assert_outcomes(passed=1)
    ran.stdout.fnmatch_lines(["no claim was run and no test with a lab failed, so there is no r.html"])
    assert not (pytester.path / "r.html").exists()


def test_failed_tests_of_this_session_that_have_no_claim_are_reported(
    scenario: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    plain = SCENARIO + "\n\ndef test_plain(pair):\n    assert pair.server.name == 'nobody'\n"
    scenario("-k", "plain and ipv6", text=plain)
    ran = scenario("--report", "r.html", "--ktap", "r.ktap", "-k", "plain and ipv4", text=plain)
    ran.assert_outcomes(failed=1)
    page, ktap = ((pytester.path / name).read_text() for name in ("r.html", "r.ktap"))
    assert "<title>Failed tests on Linux " in page
    assert "1 test beside the claims failed" in page
    assert "# >       assert pair.server.name == 'nobody'" in ktap
    assert "  not ok 1 test_scenario.py::test_plain[ipv4] # AssertionError: assert 'server' == 'nobody'\n" in ktap
    both = scenario("--ktap", "r.ktap", "-k", "(plain and ipv4) or limit", text=plain)
    both.assert_outcomes(failed=1, passed=2)
    assert "  ok 1 queue.limit # verdict=refuted\n" in (pytester.path / "r.ktap").read_text()
    assert "\nnot ok 1 Linux " in (pytester.path / "r.ktap").read_text()


def test_a_directory_is_no_file_to_write(scenario: Callable[..., pytest.RunResult]) -> None:
    ran = scenario("--tcp-report", "claims")
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran.stderr.fnmatch_lines(["ERROR: --tcp-report claims: cannot be written: it is a directory"])


def test_a_file_that_cannot_be_written_is_one_line_and_no_success(scenario: Callable[..., pytest.RunResult]) -> None:
    ran = scenario("--tcp-ktap", "test_scenario.py/r.ktap")
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran.stderr.fnmatch_lines(["ERROR: --tcp-ktap *r.ktap: cannot be written: *test_scenario.py is no directory"])


def test_junit_says_claim_verdict_and_kernel(
    scenario: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    scenario("--junitxml", "junit.xml", "-n", "1")
    cases = ET.parse(pytester.path / "junit.xml").getroot().iter("testcase")
    said = {
        case.attrib["name"]: {one.attrib["name"]: one.attrib["value"] for one in case.iter("property")}
        for case in cases
    }
    assert {name: one["verdict"] for name, one in said.items()} == {
        "test_limit[ipv4]": "refuted", "test_limit[ipv6]": "refuted", "test_absent": "unsettled"
    }  # fmt: skip
    assert {one["claim"] for one in said.values()} == {"queue.limit"}
    assert all(one["kernel"][0].isdigit() for one in said.values())
