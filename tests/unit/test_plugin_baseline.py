"""--tcp-baseline: a run that comes out or measures otherwise than the evidence of an earlier one fails, a line each."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from harness.evidence.types import Kernel, Outcome, Verdict
from harness.plugin.baseline import NAMED, Baseline, _differences
from tests.claim_file import claim_file
from tests.unit.evidence_of_a_run import a_phase, a_run, checked

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.evidence.types import Run

pytest_plugins = ["pytester"]

HOLDS = a_run(verdict=Verdict.HOLDS, phases=(checked(9, 9, "waiting"),))
OTHERWISE = "came out otherwise than in the baseline, on 6.1"


def kept(release: str, session: float = 0.0, kernel_name: str = "") -> Run:
    nodeid = f"test_queue.py::test_limit[ipv4-{kernel_name}]" if kernel_name else HOLDS.nodeid
    return a_run(nodeid, release, session=session, kernel_name=kernel_name, kernel=Kernel(release, release))


def test_a_run_is_held_against_the_same_kernel_or_the_newest_of_its_line() -> None:
    every = [kept("6.12.1", 1.0), kept("6.12.1", 2.0), kept("6.12.3", 1.0), kept("6.12.3", 1.0, "tree")]
    baseline = Baseline(Path("b"), {("queue.limit", HOLDS.nodeid, "6.12"): every})
    assert baseline.lines == ["6.12"]
    assert baseline.counterpart("queue.limit", kept("6.12.1")) is every[1]
    assert baseline.counterpart("queue.limit", kept("6.12.2")) is every[1]
    assert baseline.counterpart("queue.limit", kept("6.12.3")) is every[2]
    assert baseline.counterpart("queue.limit", kept("6.12.3", kernel_name="tree")) is every[3]
    assert baseline.counterpart("queue.limit", kept("6.1")) is None
    assert baseline.counterpart("queue.other", kept("6.12.1")) is None


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (HOLDS, []),
        (
            a_run(verdict=Verdict.REFUTED, outcome=Outcome.UNEXPECTED, reason="why\nand more"),
            [f"{OTHERWISE}: holds -> refuted: verdict: refuted, and nothing is expected"],
        ),
        (
            a_run(outcome=Outcome.BROKEN, phases=(checked(8, 9, "waiting"),)),
            [f"{OTHERWISE}: holds -> broken: waiting: 8, must be 9"],
        ),
        (
            a_run(outcome=Outcome.UNSETTLED, reason="nginx is not installed"),
            [f"{OTHERWISE}: holds -> not settled: nginx is not installed"],
        ),
        (
            a_run(verdict=Verdict.HOLDS, phases=(checked(8, 8, "waits"),)),
            ["measured otherwise than in the baseline, on 6.1: effect 1: cause: waits: 9 -> 8  (-1, ×0.889)"],
        ),
    ],
)  # fmt: skip
def test_a_verdict_or_a_measurement_that_differs_is_a_line(after: Run, told: list[str]) -> None:
    assert list(_differences(HOLDS, after)) == told


def test_of_many_measurements_the_first_are_named() -> None:
    counts = ([checked(n, n).comparisons[0] for n in range(first, first + 9)] for first in (0, 1))
    before, after = (
        a_run(verdict=Verdict.HOLDS, phases=(msgspec.structs.replace(a_phase(), comparisons=tuple(each)),))
        for each in counts
    )
    told = list(_differences(before, after))
    assert len(told) == NAMED + 1
    assert told[-1] == "measured otherwise than in the baseline, on 6.1: 6 more"


SCENARIO = """
import pytest

@pytest.mark.claim("queue.limit")
@pytest.mark.parametrize("n", [1, 2])
def test_limit(claim, n):
    with claim.effect("nobody accepts") as effect:
        effect.compare("waiting", 11, document=10, kernel=11)
    with claim.control("accepted at once") as control:
        control.expect("overflows", 0, 0)
"""


@pytest.fixture
def scenario(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., pytest.RunResult]:
    """Run the scenario with evidence in `new`."""
    monkeypatch.setenv("COLUMNS", "300")

    def run(*options: str, text: str = SCENARIO) -> pytest.RunResult:
        pytester.makepyfile(test_scenario=text)
        claims = pytester.path / "claims"
        claims.mkdir(exist_ok=True)
        (claims / "queue.toml").write_text(claim_file())
        return session("--tcp-evidence", "new", *options)

    return run


def test_a_run_is_compared_and_fails_where_it_differs(
    pytester: pytest.Pytester, scenario: Callable[..., pytest.RunResult]
) -> None:
    assert scenario().ret == pytest.ExitCode.OK
    shutil.make_archive(str(pytester.path / "old"), "zip", pytester.path / "new")
    shutil.copytree(pytester.path / "new", pytester.path / "old")
    ran = scenario("--tcp-baseline", "old.zip", "-n", "1")
    assert ran.ret == pytest.ExitCode.OK
    ran.stdout.fnmatch_lines(["baseline old.zip: 2 tests compared, none differs"])
    text = SCENARIO.replace('"overflows", 0, 0', '"overflows", n - 1, n - 1')
    ran = scenario("--tcp-baseline", "old", "--tcp-ktap", "r.ktap", text=text)
    assert ran.ret == pytest.ExitCode.TESTS_FAILED
    told = "measured otherwise than in the baseline, on *: control 1: accepted at once: overflows: 0 -> 1  (+1)"
    ran.stdout.fnmatch_lines(
        [
            "*_ ERROR at --tcp-baseline of test_scenario.py _*",
            "baseline old: 2 tests compared, 1 differs",
            f"ERROR test_scenario.py::test_limit[[]2[]] - {told}",
            "*2 passed, 1 error*",
        ]
    )
    assert "not ok 2 test_scenario.py::test_limit[2] # measured otherwise" in (pytester.path / "r.ktap").read_text()


def test_a_line_of_kernels_that_the_baseline_lacks_is_an_error(
    pytester: pytest.Pytester, scenario: Callable[..., pytest.RunResult]
) -> None:
    from tests.report.made_evidence import claim, run, save

    save(pytester.path / "old", claim(), run(version="2.6.32"))
    ran = scenario("--tcp-baseline", "old")
    assert ran.ret == pytest.ExitCode.TESTS_FAILED
    ran.stdout.fnmatch_lines(
        [
            "baseline old: 0 tests compared, none differs; 2 have nothing to compare with",
            "ERROR Linux * - was not compared: the baseline old is of 2.6, and has no run of *",
        ]
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--tcp-baseline", "none"], "ERROR: --tcp-baseline: *none: cannot be read: No such file or directory"),
        (["--tcp-baseline", "old"], "ERROR: --tcp-baseline: *old/queue.limit.json: left out: not an evidence file: *"),
        (
            ["--tcp-baseline", "new"],
            "ERROR: --tcp-baseline: new is where this run's evidence goes, *",
        ),
    ],
)
def test_a_baseline_that_cannot_be_read_is_a_mistake_of_usage(
    pytester: pytest.Pytester, scenario: Callable[..., pytest.RunResult], options: list[str], told: str
) -> None:
    from tests.report.made_evidence import claim, run, save

    save(pytester.path / "old", claim("queue.other"), run())
    (pytester.path / "old" / "queue.limit.json").write_text("{")
    ran = scenario(*options)
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran.stderr.fnmatch_lines([told])
