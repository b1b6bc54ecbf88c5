"""A failed test says whether the machine's wall clock was set while it ran."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

SAID = "*this machine's wall clock was set by +34.0 s*"
TESTS = """
import time
import pytest

@pytest.fixture
def later(monkeypatch):
    told = time.time
    return lambda: monkeypatch.setattr(time, "time", lambda: told() + 34)

def test_fails(later):
    later()
    assert False

def test_passes(later):
    later()

def test_fails_by_itself(later):
    assert False
"""


@pytest.mark.parametrize(("test", "fails", "says"), [("fails", 1, True), ("passes", 0, False), ("itself", 1, False)])
def test_a_failure_says_that_the_clock_was_set(pytester: pytest.Pytester, test: str, fails: int, says: bool) -> None:
    pytester.makepyfile(TESTS)
    chosen = "test_fails and not itself" if test == "fails" else test
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-k", chosen)
    result.assert_outcomes(failed=fails, passed=1 - fails, deselected=2)
    if says:
        result.stdout.fnmatch_lines([SAID])
    else:
        result.stdout.no_fnmatch_line(SAID)
