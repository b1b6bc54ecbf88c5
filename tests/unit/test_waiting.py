"""Pauses between looks."""

from __future__ import annotations

import pytest

from harness.errors import NotReady
from harness.waiting import LONGEST_PAUSE, PAUSE, until


@pytest.mark.parametrize("longest", [0.001, PAUSE])
def test_a_pause_is_no_longer_than_is_allowed(monkeypatch: pytest.MonkeyPatch, longest: float) -> None:
    """One of 60 ms let a TIME-WAIT grow too old that was to be taken over within 50 ms."""
    slept: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    monkeypatch.setattr("harness.waiting.SHARE", 10.0)
    with pytest.raises(NotReady):
        until(lambda: False, deadline=0.1, longest_pause=longest)
    assert 0 < max(slept) <= longest
    slept.clear()
    with pytest.raises(NotReady):
        until(lambda: False, deadline=0.1)
    assert max(slept) == LONGEST_PAUSE
