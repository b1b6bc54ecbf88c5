"""Clients behind one port of a gateway, of which the second has a timestamp clock that is behind the first one's."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness.instruments.outside_port import give_one_port
from harness.instruments.shared_address import shift_clock
from harness.laws.timestamps import ticks_a_second
from harness.observe import counting
from harness.observe.conntrack import drop_expired
from harness.observe.paws import rejected
from harness.traffic import connect
from harness.traffic.closing import leave_time_wait
from harness.waiting import let_pass, until

if TYPE_CHECKING:
    from harness.lab import BehindNat
    from harness.traffic import Listener


class Met(NamedTuple):
    """What the second client met.

    Its SYNs that were sent `in_vain`, and those that the server `refused` for their timestamps; whether it is
    connected, and after how long.
    """

    in_vain: int
    refused: int
    connected: bool
    seconds: float


def meet_time_wait(
    net: BehindNat, listener: Listener, *, behind: int, one_port: bool = True, patience: float = 3.5
) -> Met:
    """The first client comes and goes, the server closing first; then the second comes, `behind` so many ticks.

    With `one_port` the gateway gives it the port that the first has had. It gives up after `patience` seconds.
    """
    first, second = net.clients
    shift_clock(first, 0)
    shift_clock(second, -behind)
    if one_port:
        give_one_port(net.gateway)
    leave_time_wait(first, listener, closer="server")
    drop_expired(net.gateway)
    # A SYN of the same tick as the last segment of the first is not newer, and let in only if its sequence number,
    # which is drawn, is above the end of the first (net/ipv4/tcp_minisocks.c, tcp_timewait_state_process()).
    let_pass(2 / min(ticks_a_second()), what="the clock that both clients have to go on")
    with counting(net.server) as moved, counting(second) as sent:
        calls = connect(second, listener, timeout=patience)
        until(lambda: not calls.pending, deadline=60, what="the second client to be let in, or to give up")
    (call,) = calls
    connected = calls.connected == 1
    in_vain = sent.TcpExt.TCPSynRetrans + (not connected)
    return Met(in_vain, rejected(moved.delta), connected, call.seconds or 0.0)
