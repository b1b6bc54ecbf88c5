"""`harness check`: what it says first, and the exit codes by which git bisect goes on, turns round, skips or stops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cli.checking import BAD, GOOD, NOTHING_KNOWN, UNTESTABLE, Check, Failing, failing, judge
from harness.evidence.types import Outcome, Run, Verdict
from tests.claim_file import claim_file
from tests.unit.evidence_of_a_run import a_run, checked
from tests.unit.test_kernels_configuration import ENOUGH, bzimage, carrying

if TYPE_CHECKING:
    from collections.abc import Callable

SCENARIO = """
import pytest

@pytest.mark.claim("queue.limit")
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_limit(claim, family):
    with claim.effect("nobody accepts") as effect:
        effect.compare("waiting", 11, document=10, kernel=11)
    with claim.control("accepted at once") as control:
        control.expect("overflows", 0, 0)
"""
RUN = "from harness.cli import main; main()"

Ran = subprocess.CompletedProcess[str]


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., Ran]:
    """`check(*words, scenario=…)`: started beside a project with a scenario, as git bisect does in a kernel's tree."""

    def run(*words: str, scenario: str = SCENARIO, limit: str = "refuted") -> Ran:
        mine = tmp_path / "project" / "mine"
        (mine / "claims").mkdir(parents=True, exist_ok=True)
        (mine / "claims" / "queue.toml").write_text(claim_file(limit=limit, more="refuted"))
        (mine / "test_mine.py").write_text(scenario)
        ini = '[tool.pytest.ini_options]\naddopts = ["-p", "no:cacheprovider"]\n'
        (tmp_path / "project" / "pyproject.toml").write_text(ini)
        (tmp_path / "linux").mkdir(exist_ok=True)
        argv = [sys.executable, "-c", RUN, "check", "--scenarios", "../project/mine", *words]
        return subprocess.run(argv, cwd=tmp_path / "linux", capture_output=True, text=True, check=False)

    return run


def test_a_kernel_that_passes_is_good(check: Callable[..., Ran], tmp_path: Path) -> None:
    ran = check("running", "--claim", "queue.limit", "--evidence", "kept")
    assert (ran.returncode, ran.stdout) == (GOOD, "good: Linux running: queue.limit: refuted, as expected\n"), ran
    assert [file.name for file in (tmp_path / "linux" / "kept").glob("*.json")] == ["queue.limit.json"]


def test_an_archive_that_the_kernel_does_not_come_from_is_refused(check: Callable[..., Ran]) -> None:
    ran = check("running", "--mirror", "http://127.0.0.1:9/x", "--suite", "y")
    said = "running: no kernel comes from an archive; leave out --mirror http://127.0.0.1:9/x --suite y"
    assert said in ran.stderr
    assert ran.returncode >= 128


def test_the_number_that_moved_comes_before_anything_else(check: Callable[..., Ran]) -> None:
    ran = check("running", "--claim", "queue", scenario=SCENARIO.replace('"waiting", 11', '"waiting", 8'))
    assert ran.returncode == BAD
    assert ran.stdout.splitlines() == [
        "waiting: 8, must be 11",
        "  queue.limit: unexplained: mine/test_mine.py::test_limit[ipv4-running]",
        "  queue.limit: unexplained: mine/test_mine.py::test_limit[ipv6-running]",
        "bad: Linux running",
    ]


@pytest.mark.parametrize(("wanted", "code"), [("refuted", GOOD), ("holds", BAD)])
def test_a_verdict_of_choice_is_good_whatever_is_expected(check: Callable[..., Ran], wanted: str, code: int) -> None:
    ran = check("running", "--claim", "queue.limit", "--verdict", wanted, limit="holds")
    assert ran.returncode == code, ran
    first = "good: Linux running: queue.limit: refuted, as wanted" if code == GOOD else "waiting: 11, must be 10"
    assert ran.stdout.splitlines()[0] == first


def test_a_claim_that_is_not_settled_cannot_be_tested(check: Callable[..., Ran]) -> None:
    skipping = SCENARIO.replace(
        '    with claim.effect("nobody', '    pytest.skip("no table")\n    with claim.effect("nobody'
    )
    ran = check("running", "--claim", "queue.limit", scenario=skipping)
    assert (ran.returncode, ran.stdout.splitlines()[0]) == (UNTESTABLE, "queue.limit: not settled: no table")


def test_what_fails_when_a_test_is_over_counts(check: Callable[..., Ran]) -> None:
    fixture = "@pytest.fixture\ndef left():\n    yield\n    raise OSError('a namespace is left')\n\n"
    scenario = SCENARIO.replace("@pytest.mark.claim", f"{fixture}@pytest.mark.claim").replace(
        "(claim,", "(claim, left,"
    )
    ran = check("running", "--claim", "queue.limit", scenario=scenario)
    assert ran.returncode == BAD, ran
    assert "a namespace is left" in ran.stdout.splitlines()[0]


def test_evidence_of_another_run_is_not_judged(check: Callable[..., Ran]) -> None:
    bad = SCENARIO.replace('"waiting", 11', '"waiting", 8')
    more = SCENARIO.replace("queue.limit", "queue.more").replace("test_limit", "test_more")
    assert check("running", "--claim", "queue.more", "--evidence", "kept", scenario=bad + more).returncode == GOOD
    assert check("running", "--claim", "queue.limit", "--evidence", "kept", scenario=bad + more).returncode == BAD
    assert check("running", "--claim", "queue.more", "--evidence", "kept", scenario=bad + more).returncode == GOOD


def test_a_test_without_a_claim_counts_too(check: Callable[..., Ran]) -> None:
    ran = check("running", scenario=SCENARIO + "\ndef test_more():\n    assert 7 == 8\n")
    assert (ran.returncode, ran.stdout.splitlines()[0]) == (BAD, "assert 7 == 8")


def test_where_there_are_no_claims_the_tests_count(check: Callable[..., Ran]) -> None:
    plain = "import pytest\n\ndef test_more():\n    pass\n\ndef test_less():\n    pytest.skip('not here')\n"
    ran = check("running", scenario=plain)
    assert (ran.returncode, ran.stdout) == (GOOD, "good: Linux running: 1 test without a claim\n"), ran
    ran = check("running", scenario=plain.replace("    pass", "    pytest.skip('nor here')"))
    assert ran.returncode == NOTHING_KNOWN, ran


@pytest.mark.parametrize(
    ("scenario", "why"),
    [
        ("import nothing_of_the_kind\n", "No module named 'nothing_of_the_kind'"),
        ("import pytest\npytest.exit('enough')\n", "enough"),
        ("def helper(): pass\n", "no tests ran"),
    ],
)
def test_what_did_not_run_says_nothing_of_a_kernel(check: Callable[..., Ran], scenario: str, why: str) -> None:
    ran = check("running", "--claim", "queue.limit", scenario=scenario)
    assert ran.returncode == NOTHING_KNOWN, ran
    assert ran.stdout.startswith("nothing is known of Linux running: ")
    assert why in ran.stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "Missing argument"),
        (["running", "--clam", "x"], "No such option"),
        (["running", "--verdict", "fine"], "'fine' is not one of"),
        (["running", "--claim", "queue.limits"], "harness: no claim is named 'queue.limits'; "),
        (["running", "--scenarios", "nowhere"], "harness: nowhere: there are no scenarios here"),
        (["./bzImage"], "bzImage: cannot be read: No such file"),
        (["cut-off"], "cut-off: a kernel image that is cut off: its header says"),
        (["."], "harness: .: no kernel is built there"),
        (["./x,y=z"], "harness: ./x,y=z: write modules=DIRECTORY after the comma"),
        (["ssh:"], "harness: ssh:: write ssh:HOST[,python=PATH]"),
        (
            ["running", "--guest-memory", "2G"],
            "running: it runs in no virtual machine; leave out --guest-memory=2G",
        ),
        (["6.12", "--guest-cpus", "4"], "--guest-cpus 4: simulated time counts the instructions of one CPU"),
        (["6.12", "--guest-append", "a\nb"], "a kernel's command line has printable ASCII alone"),
    ],
)
def test_wrong_use_stops_git_bisect(check: Callable[..., Ran], tmp_path: Path, words: list[str], why: str) -> None:
    (tmp_path / "linux").mkdir()
    (tmp_path / "linux" / "cut-off").write_bytes(bzimage()[:-1])
    ran = check(*words)
    assert (ran.returncode, ran.stdout) == (NOTHING_KNOWN, ""), ran
    assert why in ran.stderr


@pytest.mark.parametrize("words", [["chek", "running"], ["--nope", "check", "running"], []])
def test_a_mistake_before_the_command_is_known_stops_git_bisect(words: list[str]) -> None:
    """It may have been `git bisect run harness chek`: 2 would be a kernel that is bad."""
    ran = subprocess.run([sys.executable, "-c", RUN, *words], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (NOTHING_KNOWN, ""), ran
    # A command that is no question about a kernel keeps its own.
    ran = subprocess.run([sys.executable, "-c", RUN, "report", "--nope"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2, ran


def test_a_mistake_of_ours_stops_git_bisect(check: Callable[..., Ran], tmp_path: Path) -> None:
    """A directory that cannot be what it is taken for."""
    (tmp_path / "linux").mkdir()
    (tmp_path / "linux" / "kept").symlink_to("kept")
    ran = check("running", "--claim", "queue.limit", "--evidence", "kept/x")
    assert ran.returncode == NOTHING_KNOWN, ran


def test_a_kernel_without_what_labs_need_cannot_be_tested(check: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "linux").mkdir()
    few = {name: value for name, value in ENOUGH.items() if name != "VETH"}
    (tmp_path / "linux" / "bzImage").write_bytes(bzimage(carrying(few)))
    ran = check("./bzImage")
    assert ran.returncode == UNTESTABLE, ran
    assert "cannot run scenarios: it has no veth (CONFIG_VETH)" in ran.stdout.splitlines()[0]


# What is judged, without running anything.

ASKED = Check("6.1", ("queue.limit",), None, False, Path("scenarios"))
FINE = ("queue.limit", a_run(verdict=Verdict.HOLDS, expected=Verdict.HOLDS))
WRONG = ("queue.limit", a_run(phases=(checked(3, 4, "SYNs"),), outcome=Outcome.BROKEN, expected=Verdict.HOLDS))
NOT_SETTLED = ("queue.more", a_run(outcome=Outcome.UNSETTLED, reason="no table"))
ABSENT = Failing("Linux 6.1", "did not run 1 of 2 tests", ran=False)
PLAIN = Failing("test_more", "assert 7 == 8", ran=True)


@pytest.mark.parametrize(
    ("runs", "others", "stopped", "code", "first"),
    [
        ([FINE], [], "", GOOD, "good: Linux 6.1: queue.limit: holds, as expected"),
        ([FINE, WRONG], [], "", BAD, "SYNs: 3, must be 4"),
        # What was measured counts, whatever did not run.
        ([WRONG], [ABSENT], "pytest ended with 3: x", BAD, "SYNs: 3, must be 4"),
        ([FINE], [PLAIN], "", BAD, "assert 7 == 8"),
        ([FINE], [ABSENT], "", NOTHING_KNOWN, "nothing is known of Linux 6.1: Linux 6.1: did not run 1 of 2 tests"),
        ([FINE], [], "pytest ended with 2: x", NOTHING_KNOWN, "nothing is known of Linux 6.1: pytest ended with 2: x"),
        ([], [], "", NOTHING_KNOWN, "nothing is known of Linux 6.1: no scenario was chosen"),
        ([FINE, NOT_SETTLED], [], "", UNTESTABLE, "queue.more: not settled: no table"),
    ],
)
def test_what_is_said_of_a_kernel(
    runs: list[tuple[str, Run]], others: list[Failing], stopped: str, code: int, first: str
) -> None:
    judged = judge(ASKED, "6.1", runs, others, stopped)
    assert (judged.code, judged.lines[0]) == (code, first)


def test_of_all_claims_some_may_not_be_settled() -> None:
    everything = Check("6.1", (), None, False, Path("scenarios"))
    assert judge(everything, "6.1", [FINE, NOT_SETTLED], [], "").code == GOOD
    assert judge(everything, "6.1", [NOT_SETTLED], [], "").code == UNTESTABLE


def test_of_many_that_went_wrong_ten_are_named() -> None:
    runs = [("queue.limit", a_run(f"t.py::t[{n}]", outcome=Outcome.FAILED, reason="gone")) for n in range(25)]
    lines = judge(ASKED, "6.1", runs, [], "").lines
    assert (len(lines), lines[0], lines[-2], lines[-1]) == (13, "gone", "  and 15 more", "bad: Linux 6.1")


def test_without_pytests_xml_nothing_has_failed(tmp_path: Path) -> None:
    assert list(failing(tmp_path / "none.xml")) == []
