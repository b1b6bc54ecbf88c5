"""What the instruments of costs say: memory for each socket, a slot of the hash table, the time of a connect()."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from harness.instruments import slabs, turns
from harness.instruments.connect_time import connect_seconds
from harness.instruments.slabs import AGREED, Each, bytes_each, bytes_per_hash_slot, hash_slots, time_wait_cache
from harness.instruments.turns import alone
from harness.laws.ranges import matches
from harness.observe import count, counters
from harness.traffic import listen
from harness.traffic.closing import abort_connections

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from harness.lab import Pair


def test_the_middle_of_three_that_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([0, 50_000, 100_000, 125_000, 200_000, 225_100, 300_000, 325_300])
    monkeypatch.setattr(slabs, "_taken", lambda _: next(taken))
    monkeypatch.setattr(slabs, "bytes_of", lambda _: 1)
    each = bytes_each(lambda: 100, "no such cache")
    assert isinstance(each, Each)
    assert each.bytes == 251
    assert 500 - 250 > AGREED > 3
    assert list(taken) == []
    assert matches(each.account, 256)
    assert not matches(each.account, 8)


def test_a_table_that_others_disturbed_is_not_believed() -> None:
    """Two megabytes that others take or give back meanwhile change what is seen of a slot by half a byte."""
    seen = iter([9.2, 8.02, 6.9, 8.02, 8.01, 8.02])
    assert slabs._agreed(lambda: next(seen), slabs.AGREED_A_SLOT) == 8.02
    assert list(seen) == []


def test_a_slot_of_the_hash_table(pair: Pair) -> None:
    assert bytes_per_hash_slot(pair.server) in (8, 16, None)
    assert hash_slots(pair.server) is None or int(hash_slots(pair.server) or 0)
    assert time_wait_cache(pair.server).startswith("tw_sock_TCP")


def test_the_time_of_a_connect(pair: Pair) -> None:
    listener = listen(pair.server)
    assert 0 < connect_seconds(pair.client, listener, times=5, rounds=2) < 0.1
    assert counters(pair.client).Tcp.ActiveOpens == 10
    assert listener.accepted == []


def test_connections_that_are_aborted(pair: Pair) -> None:
    listener = listen(pair.server)
    abort_connections(pair.client, listener, 4)
    assert [counters(host).Tcp.EstabResets for host in (pair.client, pair.server)] == [4, 4]
    assert count(pair.client) == count(pair.server, "exclude listening") == 0


def test_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Scenarios of other runs take turns by the machine's own file, and some hold it for a minute.
    own = tmp_path / "turns"
    own.touch()
    monkeypatch.setattr(turns, "MACHINE", own)
    within = []

    def wait_for_turn() -> None:
        with alone():
            within.append("second")

    with alone():
        second = threading.Thread(target=wait_for_turn)
        second.start()
        second.join(0.1)
        within.append("first")
    second.join(10)
    assert within == ["first", "second"]
