"""The order of tests: long waits first, evenly over the workers; what is not run without being asked for."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as some

from harness.plugin.order import balance
from harness.simulated import IS_SIMULATED

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

pytest_plugins = ["pytester"]


def shares(tests: int, workers: int) -> list[int]:
    """How many tests pytest-xdist's worksteal gives to each worker to begin with (WorkStealingScheduling)."""
    sizes, left = [], tests
    for worker in range(workers):
        sizes.append(left // (workers - worker))
        left -= sizes[-1]
    return sizes


@given(some.lists(some.integers(1, 130), max_size=60), some.integers(1, 20))
def test_every_test_is_run_once(seconds: list[int], workers: int) -> None:
    assert sorted(balance(seconds, workers)) == list(range(len(seconds)))


@given(some.lists(some.integers(1, 130), min_size=1, max_size=60), some.integers(1, 20))
def test_each_worker_begins_with_its_longest_wait(seconds: list[int], workers: int) -> None:
    order = iter(balance(seconds, workers))
    for size in shares(len(seconds), workers):
        share = [seconds[i] for i in itertools.islice(order, size)]
        assert share == sorted(share, reverse=True)


def test_long_waits_go_to_different_workers() -> None:
    seconds = [2.0] * 40 + [60.0] * 8
    order = iter(balance(seconds, 8))
    assert [[seconds[i] for i in itertools.islice(order, n)].count(60.0) for n in shares(48, 8)] == [1] * 8


def test_a_single_worker_begins_with_the_longest(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile(
        """
        import pytest
        def test_a(): pass
        @pytest.mark.slow(10)
        def test_b(): pass
        def test_c(): pass
        @pytest.mark.slow(60)
        def test_d(): pass
        """
    )
    result = session("-v")
    result.stdout.fnmatch_lines(["*::test_d *", "*::test_b *", "*::test_a *", "*::test_c *"])


def test_full_size_is_for_those_who_ask(pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.full_size('two hours')\ndef test_a(): pass\ndef test_b(): pass\n")
    session().assert_outcomes(passed=1, deselected=1)
    session("--tcp-full-size").assert_outcomes(passed=2)


def test_the_long_form_is_for_those_who_ask_and_for_simulated_time(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile("def test_a(long_form):\n    assert long_form\n")
    monkeypatch.delenv(IS_SIMULATED, raising=False)
    session().assert_outcomes(failed=1)
    session("--tcp-full-size").assert_outcomes(passed=1)
    monkeypatch.setenv(IS_SIMULATED, "1")
    session().assert_outcomes(passed=1)
