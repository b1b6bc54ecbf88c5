"""The counter behind "SYNs to LISTEN sockets dropped": what raises it, and what it counts."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from harness.instruments.accept_queue import begin_handshakes, fill
from harness.instruments.syn_queue import flooded, listening
from harness.instruments.syns import come_again, knock
from harness.laws import before, since
from harness.laws.queues import Knobs
from harness.laws.ranges import at_least
from harness.observe import netstat
from harness.traffic import RawPeer
from harness.waiting import until_at_least, until_equal

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair


@pytest.mark.claim("syn-queue.drop-counter")
def test_drop_counter(claim: ClaimRun, pair: Pair) -> None:
    server, peer = pair.server, RawPeer(pair.server, pair.client)
    full = Knobs(3, tcp_syncookies=0)
    last_quarter = Knobs(4096, tcp_max_syn_backlog=4, tcp_syncookies=0)
    for (rule, knobs), n in product({"full": full, "in its last quarter": last_quarter}.items(), (1, 7, 20)):
        # Of four places: a longer queue that is more than half full is thinned out when requests are a few seconds old
        # (reqsk_timer_handler()).
        listener = listening(server, knobs)
        flooded(pair.client, listener, 100)
        with claim.effect(f"{n} SYNs at a queue that is {rule}") as effect:
            printed = netstat.statistic(server, netstat.SYNS_TO_LISTEN)
            effect.premise("(answered, dropped)", knock(peer, listener, n), (0, n))
            moved = effect.delta(server).TcpExt
            effect.compare("ListenDrops", moved.ListenDrops, document=n)
            printed = netstat.statistic(server, netstat.SYNS_TO_LISTEN) - printed
            effect.compare('netstat -s | grep "SYNs to LISTEN"', printed, document=n)
            effect.premise("TCPReqQFullDrop", moved.TCPReqQFullDrop, n if knobs is full else 0)
    with claim.control("20 SYNs at a queue with room") as control:
        printed = netstat.statistic(server, netstat.SYNS_TO_LISTEN)
        control.expect("(answered, dropped)", knock(peer, listening(server, Knobs(50)), 20), (20, 0))
        moved = control.delta(server).TcpExt
        control.expect("(ListenDrops, TCPReqQFullDrop)", (moved.ListenDrops, moved.TCPReqQFullDrop), (0, 0))
        printed = netstat.statistic(server, netstat.SYNS_TO_LISTEN) - printed
        control.expect('netstat -s | grep "SYNs to LISTEN"', printed, 0)


@pytest.mark.slow(7)
@pytest.mark.claim("syn-queue.counter-counts-connections")
def test_counter_counts_connections(claim: ClaimRun, pair: Pair) -> None:
    server = pair.server
    # Of four places, which is too few to be thinned out: see test_drop_counter.
    listener = listening(server, Knobs(3, tcp_syncookies=0))
    flooded(pair.client, listener, 20)
    with claim.effect("a full SYN queue, and one client whose SYN is dropped three times") as effect:
        printed = netstat.statistic(server, netstat.SYNS_TO_LISTEN)
        come_again(pair.client, listener, 3)
        effect.compare("ListenDrops", effect.delta(server).TcpExt.ListenDrops, document=1, kernel=3)
        printed = netstat.statistic(server, netstat.SYNS_TO_LISTEN) - printed
        effect.compare('netstat -s | grep "SYNs to LISTEN"', printed, document=1, kernel=3)
    flooded(pair.client, listener, 20)  # before 4.4 the least queue has 16 places, and some are free again by now
    with claim.control("one client whose SYN is dropped once, and lost on its way when it comes again") as control:
        come_again(pair.client, listener, 1)
        control.expect("ListenDrops", control.delta(server).TcpExt.ListenDrops, 1)


@pytest.mark.claim("syn-queue.drops-mean-full")
def test_drops_mean_full(claim: ClaimRun, pair: Pair) -> None:
    server, peer = pair.server, RawPeer(pair.server, pair.client)
    listener = listening(server, Knobs(10))
    with claim.effect(
        "three handshakes end at a full accept queue; of eleven places in the SYN queue they have three"
    ) as effect:
        handshakes = begin_handshakes(pair.client, listener, 3)
        fill(pair.client, listener)
        printed = netstat.statistic(server, netstat.SYNS_TO_LISTEN)
        effect.premise("half-open", listener.half_open, 3)
        handshakes.complete()
        until_at_least(lambda: effect.delta(server).TcpExt.ListenOverflows, 3, what="three ACKs at the full queue")
        moved = effect.delta(server).TcpExt
        effect.compare("ListenDrops", moved.ListenDrops, document=0, kernel=at_least(3))
        effect.premise("ListenDrops for each ListenOverflows", moved.ListenDrops / moved.ListenOverflows, 1.0)
        printed = netstat.statistic(server, netstat.SYNS_TO_LISTEN) - printed
        effect.compare('netstat -s | grep "SYNs to LISTEN"', printed, document=0, kernel=at_least(3))
    # What these clients still send is to meet no queue any more.
    listener.close()
    handshakes.clients.close()
    listener = listening(server, Knobs(10))
    fill(pair.client, listener)
    with claim.effect("seven SYNs at a full accept queue; the SYN queue is empty") as effect:
        effect.premise("half-open", listener.half_open, 0)
        answered = knock(peer, listener, 7).answered
        dropped = 7 if since("accept-queue-full-drops-syns") else 7 - answered
        effect.compare("ListenDrops", effect.delta(server).TcpExt.ListenDrops, document=0, kernel=dropped)
    listener = listening(server, Knobs(10, tcp_syncookies=2))
    with claim.effect("seven SYNs are answered with cookies; both queues are empty") as effect:
        peer.half_open(listener, 7)
        until_equal(lambda: effect.delta(server).TcpExt.SyncookiesSent, 7, what="seven cookies")
        counted = 7 if before("cookies-are-no-drops") else 0
        effect.compare("ListenDrops", effect.delta(server).TcpExt.ListenDrops, document=0, kernel=counted)
    listener = listening(server, Knobs(3, tcp_syncookies=0))
    flooded(pair.client, listener, 50)
    with claim.control("seven SYNs at a full SYN queue; nobody waits in the accept queue") as control:
        control.expect("(answered, dropped)", knock(peer, listener, 7), (0, 7))
        control.expect("ListenDrops", control.delta(server).TcpExt.ListenDrops, 7)
