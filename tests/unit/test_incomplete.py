"""A run of our own tests that left some out says so at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]

BACKLOG = "net.core.netdev_max_backlog of this machine is large enough for the train"
TESTS = """
import pytest

@pytest.mark.parametrize("n", range(3))
def test_skips(n):
    pytest.skip("the 540 s are over" if n else "vagrant is not installed")

def test_passes():
    pass
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_did_not_run_is_said_last(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult], workers: str
) -> None:
    pytester.makepyfile(test_some=TESTS)
    ran = session("-p", "tests.incomplete", "-n", workers)
    ran.assert_outcomes(passed=1, skipped=3)
    assert ran.outlines[-4:-1] == [
        "3 of 4 tests did not run",
        "  2 × the 540 s are over",
        "  1 × vagrant is not installed",
    ]
    assert "did not run" not in session("-p", "tests.incomplete", "-n", workers, "-k", "passes").stdout.str()


@pytest.mark.parametrize(
    ("why", "status"), [("vagrant is not installed", 1), ("this kernel has no netem", 0), (BACKLOG, 0)]
)
def test_where_all_must_run_a_test_that_could_have_fails_the_run(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult], why: str, status: int
) -> None:
    pytester.makepyfile(test_some=f"import pytest\ndef test_a(): pytest.skip({why!r})\ndef test_b(): pass\n")
    ran = session("-p", "tests.incomplete", "--all-must-run")
    assert ran.ret == status
    assert ("it could be had" in ran.stdout.str()) is bool(status)
    assert session("-p", "tests.incomplete").ret == 0
