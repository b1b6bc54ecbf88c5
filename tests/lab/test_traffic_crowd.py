"""A crowd is open at both ends, talks, keeps within the limit of descriptors, and leaves nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import Forbidden, ProgramFailed, Unsupported
from harness.observe import count, counting, sockets
from harness.traffic import crowd as module
from harness.traffic.crowd import crowd
from harness.traffic.crowd_end import BESIDES, shares
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Pair


def test_all_are_open_and_the_sample_is_answered(pair: Pair) -> None:
    made = crowd(pair.client, pair.server, 300, ports=3, sample=50)
    assert (made.open, made.accepted) == (300, 300)
    assert made.answered >= 50
    for host in (pair.client, pair.server):
        assert count(host, "state established") == 300
    for port in made.ports:
        assert count(pair.server, f"state established sport = :{port}") == 100


def test_a_crowd_that_goes_leaves_nothing_behind(pair: Pair) -> None:
    made = crowd(pair.client, pair.server, 100)
    with counting(pair.server) as moved:
        made.close()
        until(lambda: count(pair.client) == count(pair.server) == 0, what="no socket left")
        assert moved.TcpExt.TW == 0


def test_bytes_that_are_never_read(pair: Pair) -> None:
    crowd(pair.client, pair.server, 40, unread=500)
    until(lambda: all(s.recv_q == 500 for s in sockets(pair.server, "state established")), what="500 bytes on each")
    assert count(pair.server, "state established") == 40


def test_more_connections_than_one_process_may_hold(pair: Pair) -> None:
    made = crowd(pair.client, pair.server, 100, sample=100, descriptors=64)
    assert made.processes == (4, 4)
    assert made.answered == count(pair.server, "state established") == 100


@pytest.mark.parametrize(("connections", "limit", "wanted"), [(10, 42, [10]), (11, 42, [6, 5]), (30, 42, [10, 10, 10])])
def test_shares_fit_the_limit(connections: int, limit: int, wanted: list[int]) -> None:
    assert shares(connections, limit) == wanted
    assert max(wanted) + BESIDES <= limit


def test_no_room_for_descriptors(pair: Pair) -> None:
    with pytest.raises(Forbidden, match="raise the hard limit"):
        crowd(pair.client, pair.server, 1 << 32)


def test_no_room_in_memory(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES_A_CONNECTION", 1 << 60)
    with pytest.raises(Unsupported, match="MiB are available"):
        crowd(pair.client, pair.server, 10)


def test_an_end_that_fails_says_why(pair: Pair) -> None:
    pair.client.sysctl["net.ipv4.ip_local_port_range"] = "40000 40009"
    with pytest.raises(ProgramFailed, match="Cannot assign requested address"):
        crowd(pair.client, pair.server, 31, ports=3)
