"""The hooks that others can implement: a claim was settled, evidence was written, a kernel of one's own kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.claim_file import claim_file

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]

SCENARIO = """
import pytest

@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.claim("queue.limit")
def test_limit(claim, number):
    with claim.effect("nobody accepts") as effect:
        effect.compare("waiting", 11, document=10, kernel=11)
    with claim.control("accepted at once") as control:
        control.expect("overflows", 0, 0)
"""
TELLS = """
pytest_plugins = ["harness.plugin"]

def pytest_tcp_claim_settled(config, claim, run):
    print("SETTLED", claim.name, run.said, run.params, run.phases[0].comparisons[0].measured)

def pytest_tcp_evidence_written(claim, path):
    from harness.evidence import codec
    print("WRITTEN", path.name, len(codec.read(path).runs))
"""
KERNEL = """
pytest_plugins = ["harness.plugin"]
import sys
from dataclasses import dataclass
from harness.errors import BadInput
from harness.kernels.targets import Target

@dataclass(frozen=True)
class Mine(Target):
    box: str

    @property
    def names(self):
        return (self.box, f"mine:{self.box}")

    def interpreter(self, project, mode=None):
        return sys.executable

def pytest_tcp_kernel(config, word):
    if word == "mine:":
        raise BadInput("--kernel mine: needs a box")
    return Mine(word[5:]) if word.startswith("mine:") else None
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_others_are_told_of_claims_and_evidence(
    workers: tuple[str, ...], pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile(test_scenario=SCENARIO)
    (pytester.mkdir("claims") / "queue.toml").write_text(claim_file())
    pytester.makeconftest(TELLS)
    pytester.path.joinpath("conftest.py").rename(pytester.path / "tells.py")
    ran = session("-s", "-p", "tells", *workers)
    lines = sorted(line[line.index(" ", line.find("D")) :].strip() for line in ran.outlines if "SETTLED" in line)
    assert [line.removeprefix("SETTLED ") for line in lines] == [
        "queue.limit refuted 1 11",
        "queue.limit refuted 2 11",
    ]
    ran.stdout.fnmatch_lines(["*WRITTEN queue.limit.json 1", "*WRITTEN queue.limit.json 2"])


def test_a_kernel_of_ones_own_kind_runs_tests(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile(test_it="def test_it(): pass")
    pytester.makepyfile(kind=KERNEL)
    ran = session("-v", "-p", "kind", "--tcp-kernel=mine:box", "--tcp-kernel=running")
    ran.assert_outcomes(passed=2)
    ran.stdout.fnmatch_lines_random(["*test_it.py::test_it[[]box[]]*", "*test_it.py::test_it[[]running[]]*"])


def test_a_mistake_in_the_word_is_a_line(pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]) -> None:
    pytester.makepyfile(test_it="def test_it(): pass")
    pytester.makepyfile(kind=KERNEL)
    ran = session("-p", "kind", "--tcp-kernel=mine:")
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran.stderr.fnmatch_lines(["ERROR: --tcp-kernel mine: needs a box"])
