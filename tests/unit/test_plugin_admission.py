"""Where many workers share few processors, a test begins when there is room, or after some seconds."""

from __future__ import annotations

import itertools
import os
import random
from typing import TYPE_CHECKING

import pytest

from harness.plugin import admission
from harness.plugin.admission import Admission, wanting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytest_plugins = ["pytester"]


def seen_one_after_the_other(*counts: int) -> tuple[Iterator[int], Callable[[], int]]:
    left = iter(counts)
    return left, lambda: next(left)


@pytest.mark.parametrize("counts", [(2,), (3, 2), (9, 3, 3, 0)])
def test_a_test_begins_when_no_more_want_a_processor_than_there_are(counts: tuple[int, ...]) -> None:
    left, others = seen_one_after_the_other(*counts, 0, 0)
    Admission(2, others).wait(0.001)
    assert [*left] == [0, 0]


def test_where_there_is_never_room_it_begins_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "PATIENCE", 0.05)
    left, others = seen_one_after_the_other(*[9] * 1000)
    Admission(2, others).wait(0.001)
    assert 0 < len([*left]) < 1000


def test_those_that_find_no_room_do_not_begin_together(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    for pid in (1, 2, 3):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        shares.append(Admission(2, wanting)._random.uniform(0, 1))
    assert len({*shares}) == 3


def test_who_waits_in_vain_has_less_patience_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "PATIENCE", 0.08)
    monkeypatch.setattr(admission, "LEAST", 0.02)
    counts = itertools.count(100)
    worker, had = Admission(2, lambda: next(counts)), []
    for _ in range(4):
        # More want to run each time: at no moment as few as ever before.
        counts = itertools.count(100 * next(counts))
        worker.wait(0.001)
        had.append(worker._patience)
    assert had == [0.04, 0.02, 0.02, 0.02]
    for _ in range(3):
        counts = itertools.count(0, 0)
        worker.wait(0.001)
        had.append(worker._patience)
    assert had[4:] == [0.04, 0.08, 0.08]


def test_what_always_wants_to_run_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "PATIENCE", 0.05)
    others = itertools.cycle([7, 3, 5])
    worker = Admission(2, lambda: next(others))
    worker.wait(0.001)
    assert worker._always == 3
    looked = 0

    def look() -> int:
        nonlocal looked
        looked += 1
        return next(others)

    monkeypatch.setattr(worker, "_others", look)
    worker._patience = 1e9
    for _ in range(20):
        looked = 0
        worker.wait(0.001)
        assert looked <= 2  # three and two more may run; seven are too many
    others = itertools.cycle([0])
    worker.wait(0.001)
    assert worker._always == 0


def test_other_workers_are_not_taken_for_what_always_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "PATIENCE", 0.02)
    worker = Admission(2, lambda: 50)
    worker.wait(0.001)
    assert worker._always == 2 * admission.OTHERS


def test_the_numbers_that_tests_draw_are_as_without_it() -> None:
    before = random.getstate()
    Admission(2, lambda: 0).wait(0.001)
    assert random.getstate() == before


@pytest.mark.parametrize(("said", "others"), [("1.17 0.73 0.32 3/87 9025\n", 2), ("", 0), ("a b c d e\n", 0)])
def test_how_many_others_want_a_processor(
    said: str, others: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "LOAD", tmp_path / "loadavg")
    assert wanting() == 0
    (tmp_path / "loadavg").write_text(said)
    assert wanting() == others


@pytest.mark.parametrize(
    ("workers", "how", "processors", "waits"),
    [
        (3, "forked", 1, True),
        (2, "forked", 1, False),
        (0, "forked", 1, False),
        (3, "started", 1, False),
        (3, "forked", 2, False),  # of which it may use one
    ],
)
def test_many_workers_wait_before_their_tests_and_not_in_them(
    workers: int, how: str, processors: int, waits: bool, pytester: pytest.Pytester
) -> None:
    pytester.makeini(f"[pytest]\ntcp_workers = {how}\n")
    pytester.makeconftest(
        f"PROCESSORS = {processors}"
        + """
import os, time
os.sched_getaffinity = lambda _: {0}
os.cpu_count = lambda: PROCESSORS
from harness.plugin import admission
pytest_plugins = ["harness.plugin"]
looks = []
admission.wanting = lambda: looks.append(time.monotonic()) or (10_000 if len(looks) < 3 else 0)
admission.PATIENCE = 1e9
admission.SOON = admission.LATER = 0.001
"""
    )
    pytester.makepyfile(
        """
import time
import pytest

@pytest.fixture
def begun():
    return time.monotonic()

@pytest.mark.parametrize("number", range(20))
def test_it(number, request, begun, conftest_looks):
    assert request.config.pluginmanager.has_plugin("harness-admission") == WAITS
    assert (len(conftest_looks) >= 3) == WAITS
    assert all(look < begun for look in conftest_looks)

@pytest.fixture
def conftest_looks(request):
    (conftest,) = [each for each in request.config.pluginmanager.get_plugins() if hasattr(each, "looks")]
    return conftest.looks
""".replace("WAITS", str(waits))
    )
    pytester.runpytest_subprocess("-n", str(workers), "-p", "no:cacheprovider").assert_outcomes(passed=20)
