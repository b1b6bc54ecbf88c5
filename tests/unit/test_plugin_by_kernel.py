"""The matrix at the end of a session on several kernels."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.claim_file import claim_file

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

pytest_plugins = ["pytester"]

# Two kernels, without a machine: what a worker says of itself is another release.
KINDS = """
import os
import sys
from dataclasses import dataclass
from harness.kernels.targets import Target

@dataclass(frozen=True)
class Other(Target):
    release: str

    @property
    def names(self):
        return (self.release,)

    def interpreter(self, project, mode=None):
        return f"env OTHER_KERNEL={self.release} {sys.executable}"

def pytest_tcp_kernel(word):
    return Other(word[6:]) if word.startswith("other:") else None

if other := os.environ.get("OTHER_KERNEL"):
    from harness.laws import kernel
    kernel.running = lambda: kernel.KernelVersion.parse(other)
"""
SCENARIO = """
import os
import pytest
import harness.claims.record

OTHER = os.environ.get("OTHER_KERNEL", "")

@pytest.mark.claim("queue.limit")
def test_limit(claim):
    with claim.effect("nobody accepts") as effect:
        effect.compare("waiting", 10 if OTHER.startswith("4") else 11, document=10, kernel=11)
    with claim.control("accepted at once") as control:
        control.expect("overflows", 0, 0)

@pytest.mark.claim("queue.same")
def test_same(claim):
    with claim.effect("nobody accepts") as effect:
        effect.compare("waiting", 11, document=10, kernel=11)
    with claim.control("accepted at once") as control:
        control.expect("overflows", 0, 0)
"""


def lines_of(ran: pytest.RunResult) -> list[str]:
    """What stands below the heading, without padding."""
    start = next(i for i, line in enumerate(ran.outlines) if " claims by kernel " in line)
    lines = [re.sub(r"  +", " ", line.strip()) for line in ran.outlines[start + 1 :]]
    return lines[: next(i for i, line in enumerate(lines) if line.startswith("evidence:"))]


def test_what_differs_is_a_row_and_the_rest_is_counted(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile(test_scenario=SCENARIO, kinds=KINDS)
    (pytester.mkdir("claims") / "queue.toml").write_text(claim_file(same="refuted"))
    ran = session("-p", "kinds", "--tcp-kernel=other:4.19.1", "--tcp-kernel=other:5.10.2", "--color=no")
    assert lines_of(ran) == [
        "4.19 5.10",
        "refuted 1 2",
        "unexpected 1 0",
        "queue.limit ! ✗",
        "✓ holds, ✗ refuted, – not applicable, ? not settled, ! not as expected",
    ]


def test_of_one_kernel_there_is_no_matrix(pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]) -> None:
    pytester.makepyfile(test_scenario=SCENARIO)
    (pytester.mkdir("claims") / "queue.toml").write_text(claim_file(same="refuted"))
    session().stdout.no_fnmatch_line("*claims by kernel*")
