"""The plugin without labs: markers, verdicts, summary, evidence, mistakes of usage."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.evidence import codec
from harness.evidence.types import Check, Judgement, Result
from harness.evidence.values import value_of
from tests.claim_file import claim_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.evidence.types import EvidenceFile

pytest_plugins = ["pytester"]

PROJECT = Path(__file__).parents[2]

SCENARIO = """
import pytest

@pytest.mark.claim("queue.limit")
def test_limit(claim):
    with claim.effect("nobody accepts") as effect:
        effect.compare("waiting", 11, document=10, kernel=11)
    with claim.control("accepted at once") as control:
        control.expect("overflows", 0, 0)
"""


@pytest.fixture
def scenario(pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]) -> Callable[..., pytest.RunResult]:
    """Run a scenario beside a file with the claim queue.limit (and more, as id=verdict)."""

    def run(text: str, *options: str, limit: str = "refuted", **more: str) -> pytest.RunResult:
        pytester.makepyfile(test_scenario=text)
        claims = pytester.mkdir("claims") / "queue.toml"
        claims.write_text(claim_file(limit=limit, **more))
        return session(*options)

    return run


def evidence(pytester: pytest.Pytester, name: str = "queue.limit") -> EvidenceFile:
    return codec.read(pytester.path / "out" / "evidence" / f"{name}.json")


def test_a_refuted_claim_that_is_expected_so_passes(
    pytester: pytest.Pytester, scenario: Callable[..., pytest.RunResult]
) -> None:
    result = scenario(SCENARIO)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "=* claims on Linux * =*",
            "refuted (1)",
            "  queue.limit  ten may wait",
            "1 claim: 1 refuted",
            "evidence: out/evi*",
        ]
    )
    stored = evidence(pytester)
    change = stored.claim.expectations[0].change
    assert change is not None
    assert change.commit == "64a146513f8f"
    (run,) = stored.runs
    assert (run.outcome, run.verdict, run.expected, run.params) == ("expected", "refuted", "refuted", "")
    ten, eleven, none = (value_of(number) for number in (10, 11, 0))
    assert run.phases[0].comparisons == (Judgement("waiting", eleven, ten, eleven, Result.KERNEL),)
    assert run.phases[1].comparisons == (Check("overflows", none, none, True),)


def test_a_scenario_without_a_control_fails_as_incomplete(
    pytester: pytest.Pytester, scenario: Callable[..., pytest.RunResult]
) -> None:
    result = scenario(SCENARIO[: SCENARIO.index("    with claim.control")])
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["incomplete: the scenario measured no control*", "incomplete (1)"])
    assert evidence(pytester).runs[0].outcome == "incomplete"


def test_a_scenario_that_does_not_use_the_fixture_fails_as_incomplete(
    scenario: Callable[..., pytest.RunResult],
) -> None:
    result = scenario('import pytest\n@pytest.mark.claim("queue.limit")\ndef test_limit(): pass\n')
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["incomplete: the scenario measured nothing*"])


def test_an_expectation_turned_round_fails_as_unexpected(
    pytester: pytest.Pytester, scenario: Callable[..., pytest.RunResult]
) -> None:
    result = scenario(SCENARIO, limit="holds")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "--* claim queue.limit * --*",
            "effect: nobody accepts",
            "unexpected (1)",
            "      queue.limit on *: refuted, but holds is expected for >=3.0 (the*, commit 64a146513f8f in 2.6.21)",
            "      not what the document says: waiting: measured 11, document 10, kernel 11",
            "1 claim: 1 unexpected",
        ]
    )
    assert evidence(pytester).runs[0].verdict == "refuted"


def test_what_neither_account_says_fails_as_unexplained(scenario: Callable[..., pytest.RunResult]) -> None:
    result = scenario(SCENARIO.replace("kernel=11", "kernel=12"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "_* test_limit _*",
            "waiting: 11, must be 12",
            "unexplained: test_scenario.py:6: waiting: measured 11, the document says 10, our account of the kernel 12",
            "unexplained (1)",
            "      waiting: 11, must be 12",
            "FAILED test_scenario.py::test_limit - waiting: 11, must be 12",
        ]
    )


def test_a_broken_control_fails_where_it_stands(scenario: Callable[..., pytest.RunResult]) -> None:
    result = scenario(SCENARIO.replace('"overflows", 0, 0', '"overflows", 2, 0'))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "_* test_limit _*",
            "overflows: 2, must be 0",
            ">*control.expect*",
            "E *Broken: control 'accepted at once': overflows: measured 2, must be 0",
            "broken (1)",
        ]
    )


@pytest.mark.parametrize("workers", ["0", "1"])
def test_what_ends_a_scenario_early_is_said_before_anything_else(
    pytester: pytest.Pytester, scenario: Callable[..., pytest.RunResult], workers: str
) -> None:
    waits = "        harness.waiting.until_equal(lambda: 7, 8, what='waiting', deadline=0)\n"
    text = SCENARIO.replace("import pytest", "import harness.waiting, pytest")
    text = text.replace("        effect.compare", f"{waits}        effect.compare")
    result = scenario(text, "-n", workers, "--junitxml=junit.xml")
    result.assert_outcomes(failed=1)
    lines = result.stdout.lines
    heading = next(number for number, line in enumerate(lines) if re.search("_ test_limit _", line))
    shown = [line for line in lines[heading + 1 :] if line and not line.startswith("[gw")]
    assert shown[0] == "waiting: 7, must be 8; not so within 0 s"
    assert "FAILED test_scenario.py::test_limit - waiting: 7, must be 8; not so within 0 s" in lines
    assert '<failure message="waiting: 7, must be 8;' in (pytester.path / "junit.xml").read_text()


def test_a_test_without_a_claim_fails_as_it_always_did(scenario: Callable[..., pytest.RunResult]) -> None:
    result = scenario("def test_plain(): assert 7 == 8")
    assert "FAILED test_scenario.py::test_plain - assert 7 == 8" in result.stdout.lines


def test_what_a_machine_lacks_is_skipped_and_listed_as_not_settled(
    pytester: pytest.Pytester, scenario: Callable[..., pytest.RunResult]
) -> None:
    result = scenario(
        """
        import pytest
        from harness.errors import Forbidden, GlobalSysctl, MissingProgram

        @pytest.fixture
        def wrk():
            raise MissingProgram("wrk", "wrk")

        @pytest.mark.claim("queue.limit")
        def test_setup(wrk, claim): pass

        @pytest.mark.claim("queue.nginx")
        def test_call(claim):
            raise MissingProgram("nginx", "nginx-light")

        @pytest.mark.claim("queue.files")
        def test_global(claim):
            raise GlobalSysctl("fs.file-max is the whole machine's")

        @pytest.mark.claim("queue.marked")
        @pytest.mark.skip(reason="later")
        def test_marked(claim): pass

        def test_plain():
            raise Forbidden("no user namespaces")
        """,
        "-rs",
        nginx="holds",
        files="holds",
        marked="holds",
    )
    result.assert_outcomes(skipped=5)
    result.stdout.fnmatch_lines(
        [
            "not settled (4)",
            "  queue.files   needs a kernel of its own: fs.file-max is the whole machine's",
            "  queue.limit   wrk is not installed; on Debian: apt-get install wrk",
            "  queue.marked  later",
            "  queue.nginx   nginx is not installed; on Debian: apt-get install nginx-light",
            "SKIPPED * no user namespaces",
        ]
    )
    (run,) = evidence(pytester, "queue.nginx").runs
    assert (run.outcome, run.verdict) == ("unsettled", None)


def test_an_error_of_the_scenario_itself_is_a_failure(
    pytester: pytest.Pytester, scenario: Callable[..., pytest.RunResult]
) -> None:
    result = scenario(SCENARIO + "    assert claim is None\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["failed (1)"])
    (run,) = evidence(pytester).runs
    assert (run.outcome, run.reason[:14]) == ("failed", "AssertionError")


def test_runs_that_differ_are_told_apart(scenario: Callable[..., pytest.RunResult]) -> None:
    text = SCENARIO.replace(
        "def test_limit(claim)", '@pytest.mark.parametrize("n", [11, 12])\ndef test_limit(claim, n)'
    )
    result = scenario(text.replace('"waiting", 11', '"waiting", n'))
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "refuted (1)",
            "  queue.limit [[]11[]]*",
            "unexplained (1)",
            "  queue.limit [[]12[]]*",
        ]
    )


def test_claims_that_nothing_ran_are_named_after_a_whole_run(scenario: Callable[..., pytest.RunResult]) -> None:
    result = scenario(SCENARIO, "--import-mode=importlib", str(Path()), forgotten="holds")
    result.stdout.fnmatch_lines(["no result for: queue.forgotten"])


def test_and_not_after_a_part_of_it(scenario: Callable[..., pytest.RunResult]) -> None:
    result = scenario(SCENARIO, "-k", "limit", forgotten="holds")
    result.stdout.no_fnmatch_line("no result for*")


def test_quiet_leaves_only_what_needs_attention(scenario: Callable[..., pytest.RunResult]) -> None:
    result = scenario(SCENARIO, "-q")
    result.stdout.fnmatch_lines(["1 claim: 1 refuted"])
    result.stdout.no_fnmatch_line("refuted (1)")


def test_workers_bring_the_same(pytester: pytest.Pytester, scenario: Callable[..., pytest.RunResult]) -> None:
    result = scenario(SCENARIO, "-n", "1", "--tcp-evidence", "elsewhere")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["1 claim: 1 refuted", "evidence: elsewhere"])
    assert (
        json.loads((pytester.path / "elsewhere" / "queue.limit.json").read_text())["runs"][0]["outcome"] == "expected"
    )
    assert not (pytester.path / "out").exists()


def test_junit_has_claim_verdict_and_kernel(
    pytester: pytest.Pytester, scenario: Callable[..., pytest.RunResult]
) -> None:
    scenario(SCENARIO, "--junitxml", "junit.xml")
    junit = (pytester.path / "junit.xml").read_text()
    assert re.findall(r'<property name="(\w+)" value="([^"]+)"', junit)[:2] == [
        ("claim", "queue.limit"),
        ("verdict", "refuted"),
    ]
    assert 'name="kernel"' in junit


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "workers"])
def test_a_malformed_claim_file_is_one_line(
    scenario: Callable[..., pytest.RunResult], workers: tuple[str, ...]
) -> None:
    result = scenario(SCENARIO, *workers, limit="true")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *queue.toml: claim queue.limit: expect '>=3.0': verdict 'true' is none of *"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (('"queue.limit"', '"queue.limits"'), "no claim is named 'queue.limits'; the nearest: queue.limit"),
        (('("queue.limit")', "()"), 'write the marker as claim("group.id")'),
        (("@pytest", '@pytest.mark.claim("queue.limit")\n@pytest'), "a test settles one claim, its markers name 2"),
    ],
)
def test_a_wrong_marker_is_a_mistake_of_usage(
    scenario: Callable[..., pytest.RunResult], change: tuple[str, str], complaint: str
) -> None:
    result = scenario(SCENARIO.replace(*change))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert complaint in result.stderr.str()
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_a_wrong_marker_is_an_error_of_the_test_in_a_worker(scenario: Callable[..., pytest.RunResult]) -> None:
    result = scenario(SCENARIO.replace("queue.limit", "queue.limits"), "-n", "1")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*no claim is named 'queue.limits'; the nearest: queue.limit*"])


def test_claims_may_lie_elsewhere(pytester: pytest.Pytester, scenario: Callable[..., pytest.RunResult]) -> None:
    pytester.makeini("[pytest]\nclaims = more/queue.toml")
    pytester.mkdir("more").joinpath("queue.toml").write_text(claim_file())
    scenario(SCENARIO, limit="holds").assert_outcomes(passed=1)


def test_without_claim_files_the_ini_option_is_named(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile(SCENARIO)
    result = session()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *no claims/*.toml beside it; set pytest's `tcp_claim_files` *"])


def test_the_fixture_needs_the_marker(scenario: Callable[..., pytest.RunResult]) -> None:
    result = scenario("def test_limit(claim): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["the claim fixture needs the marker: *"])


def test_holding_needs_a_terminal(scenario: Callable[..., pytest.RunResult]) -> None:
    result = scenario(SCENARIO, "--tcp-hold", "-n", "1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --tcp-hold * run with -n 0"])


def test_an_evidence_directory_that_cannot_be_made_is_a_mistake_of_usage(
    scenario: Callable[..., pytest.RunResult],
) -> None:
    result = scenario(SCENARIO, "--tcp-evidence", "conftest.py/x")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = "*evidence cannot be kept, see --tcp-evidence: *conftest.py/x: cannot be written: *is no directory*"
    # pytest 9.2 says it on stderr, earlier ones on stdout.
    pytest.LineMatcher([*result.outlines, *result.errlines]).fnmatch_lines([said])


def test_a_session_without_claims_leaves_nothing_behind(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile("def test_nothing(): pass")
    result = session()
    result.stdout.no_fnmatch_line("*claims on Linux*")
    assert not (pytester.path / "out").exists()


def test_importing_the_plugin_brings_no_heavy_library() -> None:
    code = "import sys, harness.plugin; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, check=True, capture_output=True, text=True
    ).stdout
    assert not {"pyroute2", "scapy", "hypothesis", "tenacity", "lark", "packaging.specifiers"} & set(loaded.split())


def test_installed_and_registered_by_a_conftest_is_one_plugin(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = pytester.mkdir("site") / "harness_as_installed-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: harness-as-installed\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[pytest11]\nharness.plugin = harness.plugin\n")
    paths = [str(installed.parent), str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    pytester.makepyfile('def test_it(pytestconfig): assert pytestconfig.getoption("tcp_hold") is False')
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    pytester.makeconftest('pytest_plugins = ["harness.plugin"]')
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_evidence_of_an_interrupted_session_is_whole(
    pytester: pytest.Pytester, scenario: Callable[..., pytest.RunResult]
) -> None:
    result = scenario(SCENARIO + '\ndef test_stop():\n    pytest.exit("stop")\n')
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert [run.verdict for run in evidence(pytester).runs] == ["refuted"]
    result.stdout.fnmatch_lines(["1 claim: 1 refuted"])


def test_a_claim_whose_worker_died_is_named(scenario: Callable[..., pytest.RunResult]) -> None:
    died = """
import os
import pytest

@pytest.mark.claim("queue.deadly")
def test_deadly(claim):
    os._exit(1)
"""
    result = scenario(SCENARIO + died, "-n", "1", deadly="holds")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["failed (1)", "  queue.deadly *", "2 claims: 1 refuted, 1 failed"])


@pytest.mark.parametrize(("chosen", "passed"), [("queue.limit", 1), ("queue", 2), ("queue.other", 1)])
def test_claim_chooses_scenarios_by_name_or_group(
    scenario: Callable[..., pytest.RunResult], chosen: str, passed: int
) -> None:
    other = SCENARIO.replace("queue.limit", "queue.other").replace("test_limit", "test_other")
    result = scenario(SCENARIO + other + "def test_none(): pass", "--tcp-claim", chosen, other="refuted")
    result.assert_outcomes(passed=passed, deselected=3 - passed)


def test_a_claim_that_is_none_is_a_mistake_of_usage(scenario: Callable[..., pytest.RunResult]) -> None:
    result = scenario(SCENARIO, "--tcp-claim", "queue.limt")
    assert result.ret is pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --tcp-claim: no claim is named 'queue.limt'; the nearest: queue.limit*"])


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("limit", "the nearest: queue.limit"),
        ("limt", "the nearest: queue.limit"),
        ("quue", "the nearest: queue"),
        ("nope", "the groups are queue"),
    ],
)
def test_a_claim_that_is_none_has_near_ones(scenario: Callable[..., pytest.RunResult], word: str, near: str) -> None:
    result = scenario(SCENARIO, "--tcp-claim", word)
    assert result.ret is pytest.ExitCode.USAGE_ERROR
    assert result.errlines[0] == f"ERROR: --tcp-claim: no claim is named {word!r}; {near}"
