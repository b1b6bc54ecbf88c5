"""A failed test says whether the machine's wall clock was set while it ran."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

SAID = "*this machine's wall clock was set by {} s*"
TESTS = """
import time
import pytest

@pytest.fixture
def put(monkeypatch):
    told = time.time
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: told() + seconds)

def test_ahead(put):
    put(34)
    assert False

def test_a_little_back(put):
    put(-0.05)
    assert False

def test_passes(put):
    put(34)

def test_fails_by_itself():
    assert False

def test_read_with_an_interruption(monkeypatch):
    told, calls = time.time, []
    def interrupted():
        calls.append(time.monotonic())
        while len(calls) % 9 == 1 and time.monotonic() < calls[-1] + 0.1:
            pass
        return told()
    monkeypatch.setattr(time, "time", interrupted)
    assert False
"""


@pytest.mark.parametrize(
    ("test", "fails", "says"),
    [
        ("ahead", 1, "+34.00"),
        ("a_little_back", 1, "-0.05"),
        ("passes", 0, None),
        ("itself", 1, None),
        ("interruption", 1, None),
    ],
)
def test_a_failure_says_that_the_clock_was_set(
    pytester: pytest.Pytester, test: str, fails: int, says: str | None
) -> None:
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-k", test)
    result.assert_outcomes(failed=fails, passed=1 - fails, deselected=4)
    if says:
        result.stdout.fnmatch_lines([SAID.format(says)])
    else:
        result.stdout.no_fnmatch_line(SAID.format("*"))
