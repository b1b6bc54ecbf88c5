"""Short connections at a rate: how many are made, who is left with TIME-WAIT, and what ends them."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput, NotReady
from harness.observe import count
from harness.traffic import drop, listen, short_connections
from harness.traffic.quick import AHEAD
from harness.traffic.short_connections import ShortConnections, keep_asking

if TYPE_CHECKING:
    from harness.lab import Pair


def test_they_end_when_no_port_is_left(pair: Pair) -> None:
    pair.client.sysctl["net.ipv4.ip_local_port_range"] = "40000 40019"
    asking = ShortConnections(pair.client, [listen(pair.server)], rate=200)
    started = time.monotonic()
    keep_asking([asking], 10, stop_at_failure=True)
    assert (asking.before_failure, dict(asking.errors)) == (20, {"EADDRNOTAVAIL": 1})
    assert (asking.answered_after_failure(10), asking.answered) == (0, 20)
    assert asking.first_failure is not None
    assert 0.1 <= asking.first_failure <= time.monotonic() - started
    assert count(pair.client, "state time-wait") == 20


def test_several_ask_side_by_side_for_a_time(pair: Pair) -> None:
    slow, fast = (ShortConnections(pair.client, [listen(pair.server)], rate) for rate in (20, 50))
    started = keep_asking([slow, fast], 0.2)
    keep_asking([slow, fast], 0.5, since=started)
    assert (slow.answered, fast.answered) == (11, 26)
    assert slow.first_failure is fast.first_failure is None


def test_a_client_does_not_wait_for_another_ones_answer(pair: Pair) -> None:
    slow, fast = (ShortConnections(pair.client, [listen(pair.server)], rate) for rate in (20, 50))
    # Its second SYN comes a second later.
    drop(pair.server, "S", dport=slow.servers[0].port, first=2, count=1)
    keep_asking([slow, fast], 1)
    moments = [moment for moment, _ in slow.results]
    stall, end = max(itertools.pairwise(moments), key=lambda pair: pair[1] - pair[0])
    assert end - stall > 0.9
    assert sum(stall < moment < end for moment, _ in fast.results) > 2
    assert (slow.lost > 0.5, slow.answered, fast.answered) == (True, 21, 51)


def test_the_others_end_with_a_client_that_cannot_go_on(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_connections, "TOO_MUCH_LOST", 0.5)
    slow = ShortConnections(pair.client, [listen(pair.server)], 20)
    fast = ShortConnections(pair.client, [listen(pair.server)], 50, per_connection=100_000)
    drop(pair.server, "S", dport=slow.servers[0].port, first=2, count=1)
    with pytest.raises(NotReady, match="too busy to ask"):
        keep_asking([slow, fast], 3600)
    assert slow.answered < 10
    assert fast.connections == 1
    assert not fast._open


def test_two_clients_of_one_listener_are_refused(pair: Pair) -> None:
    listener = listen(pair.server)
    with pytest.raises(BadInput, match="the same listener"):
        keep_asking([ShortConnections(pair.client, [listener], 20) for _ in range(2)], 1)


def test_who_closes_first_is_left_with_time_wait(pair: Pair) -> None:
    asking = ShortConnections(pair.client, [listen(pair.server)], 1000, closer="server")
    keep_asking([asking], 0.01)
    assert count(pair.server, "state time-wait") == asking.connections == 11
    assert count(pair.client, "state time-wait") == 0
    with pytest.raises(BadInput):
        ShortConnections(pair.client, [], 1, closer="nobody")


def test_kept_connections_and_servers_in_turn(pair: Pair) -> None:
    first, second = listen(pair.server), listen(pair.server)
    asking = ShortConnections(pair.client, [first, second], 1000, per_connection=4)
    keep_asking([asking], 0.0195)
    assert (asking.answered, asking.connections) == (20, 5)
    assert count(pair.client, f"state time-wait dport = :{first.port}") == 3
    assert count(pair.client, f"state time-wait dport = :{second.port}") == 2


def test_what_does_not_keep_its_rate_ends_by_the_clock(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_connections, "TOO_LATE", 0.0)
    monkeypatch.setattr(short_connections, "TOO_MUCH_LOST", 0.0)
    asking = ShortConnections(pair.client, [listen(pair.server)], rate=1e6)
    with pytest.raises(NotReady):
        keep_asking([asking], 0.2)
    asking = ShortConnections(pair.client, [listen(pair.server)], rate=1e6)
    keep_asking([asking], 0.2, within=1)
    assert asking.lost > 0
    assert 0 < asking.answered < 200_000
    # The last was due in time, and asked when it could be.
    assert asking.results[-2][0] < 1


def test_time_that_the_machine_takes_moves_the_schedule_on_up_to_a_limit(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped_for_a_second() -> ShortConnections:
        """One connect() blocks until the SYN is sent again."""
        listener = listen(pair.server)
        drop(pair.server, "S", dport=listener.port, first=2, count=1)
        return ShortConnections(pair.client, [listener], rate=20, per_connection=2)

    asking = stopped_for_a_second()
    keep_asking([asking], 0.5)
    assert asking.answered == 11
    assert asking.lost > 0.5
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(asking.results)]
    stall = gaps.index(max(gaps))
    # What comes after it keeps the distance: nothing is made up for in a burst.
    after = [moment for moment, _ in asking.results[stall + 1 :]]
    assert after[-1] - after[0] > 0.9 * (len(after) - 1) / asking.rate
    monkeypatch.setattr(short_connections, "TOO_MUCH_LOST", 0.5)
    with pytest.raises(NotReady, match=r"too busy to ask for \d+ s in all"):
        keep_asking([busy := stopped_for_a_second()], 0.5)
    assert not busy._open


@pytest.mark.parametrize("clients", [1, 3])
def test_who_keeps_a_rate_comes_before_others(pair: Pair, monkeypatch: pytest.MonkeyPatch, clients: int) -> None:
    asked, usual = ShortConnections.ask, priority()
    seen: set[int] = set()

    def ask(self: ShortConnections, since: float) -> None:
        seen.add(priority())
        asked(self, since)

    monkeypatch.setattr(ShortConnections, "ask", ask)
    keep_asking([ShortConnections(pair.client, [listen(pair.server)], 100) for _ in range(clients)], 0.1)
    assert priority() == usual
    assert seen == {min(usual, AHEAD) if may_be_quick() else usual}


def may_be_quick() -> bool:
    """Whether this process has CAP_SYS_NICE in the machine's own user namespace."""
    trying = "import os; os.setpriority(os.PRIO_PROCESS, 0, -10)"
    return not subprocess.run([sys.executable, "-c", trying], check=False, capture_output=True).returncode


def priority() -> int:
    """This thread's."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
