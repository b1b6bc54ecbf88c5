"""An RST that is late ends TIME-WAIT, or resets the connection that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import NotReady
from harness.instruments.late_reset import LateReset
from harness.observe import capture, states_between
from harness.traffic import listen

if TYPE_CHECKING:
    from harness.lab import Pair


def test_it_ends_time_wait(pair: Pair) -> None:
    with capture(pair.client) as packets:
        reset = LateReset(pair.client, listen(pair.server), packets)
        assert reset.states == ["TIME-WAIT"]
        assert reset.arrive() >= 0
        assert reset.states == []


def test_it_resets_the_next_connection_where_its_number_is_next(pair: Pair) -> None:
    with capture(pair.client) as packets:
        reset, other = (LateReset(pair.client, listen(pair.server), packets) for _ in range(2))
        for each in (reset, other):
            each.arrive()  # no TIME-WAIT is in the way any more
        new, untouched = reset.connect_again(), other.connect_again()
        reset.arrive()
        assert (new.fate(), untouched.fate()) == ("ECONNRESET", "open")
        assert states_between(pair.client, other.local, other.remote) == ["ESTAB"]


def test_a_capture_without_its_fin(pair: Pair) -> None:
    with capture(pair.client, port=1) as packets, pytest.raises(NotReady, match="no FIN to port"):
        LateReset(pair.client, listen(pair.server), packets)
