"""What a program prints is set beside what the kernel says at that moment, and not of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import NotReady
from harness.instruments import one_moment
from harness.instruments.one_moment import beside_count, beside_states
from harness.observe import count
from harness.traffic import connect, listen

if TYPE_CHECKING:
    from harness.lab import Pair


def test_a_look_during_which_something_changes_is_repeated(pair: Pair) -> None:
    listener, looks = listen(pair.server), 0

    def look() -> int:
        nonlocal looks
        looks += 1
        if looks < 3:
            connect(pair.client, listener, wait=True)
        return looks

    assert beside_count(pair.client, look, "state established") == (3, 2)
    assert beside_states(pair.client, lambda: "seen") == ("seen", {"ESTAB": 2})


def test_what_never_rests_is_said(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_moment, "DEADLINE", 0.1)
    listener = listen(pair.server)
    with pytest.raises(NotReady, match="a moment in which no socket changes"):
        beside_count(pair.client, lambda: connect(pair.client, listener, wait=True), "state established")
    assert count(pair.client, "state established") >= 2
