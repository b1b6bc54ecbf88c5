"""Cookies in place of requests: a queue so full that SYNs get them, and ACKs that bring back true and false ones."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from harness.instruments.syn_queue import SYNCOOKIES
from harness.instruments.syns import fill_up
from harness.laws import before
from harness.observe import counters
from harness.traffic import SYN_OPTIONS, RawPeer, echo, listen
from harness.waiting import let_pass, until

if TYPE_CHECKING:
    from harness.lab import Host
    from harness.observe import Delta
    from harness.traffic import Listener, RawConnection

# What a cookie can say of the client's MSS: net/ipv4/syncookies.c and net/ipv6/syncookies.c, msstab, since the boundary
# cookie-has-four-mss.
MSS_TABLE = {socket.AF_INET: (536, 1300, 1440, 1460), socket.AF_INET6: (1220, 1420, 1440, 8940)}
# In seconds from boot: five minutes and two, and a bit.
START = 425
# What cookies and dropped handshakes are counted in.
COUNTERS = ("TcpExt.Syncookies*", "TcpExt.TCPReqQFull*", "TcpExt.Listen*")


class FullQueue(NamedTuple):
    """A listener that answers its clients, and whose SYN queue keeps no more than the `length` that it has."""

    listener: Listener
    length: int


def full_queue(server: Host, near: Host, cookies: int, backlog: int = 3) -> FullQueue:
    """A listener whose SYN queue was filled until a SYN was not kept.

    With a backlog of up to 3 it stays full for a minute; a longer queue that is more than half full lets go of requests
    that are 7 s old (reqsk_timer_handler()), which a busy machine takes for little.
    `cookies` is tcp_syncookies; with 2 not even the first is kept. The SYNs come from the end of the cable where `near`
    is.
    """
    server.sysctl[SYNCOOKIES] = cookies
    listener = listen(server, backlog, answer=echo)
    return FullQueue(listener, fill_up(RawPeer(server, near), listener).kept)


def cookie_counters(delta: Delta) -> dict[str, int]:
    """How the counters of cookies and of dropped handshakes moved; those not named did not move."""
    return delta.only(*COUNTERS).nonzero()


def cookies_counted(n: int) -> dict[str, int]:
    """How they move when n SYNs are answered with cookies and nothing else happens."""
    dropped = {"TcpExt.ListenDrops": n} if before("cookies-are-no-drops") else {}
    return {"TcpExt.SyncookiesSent": n, "TcpExt.TCPReqQFullDoCookies": n, **dropped}


def drops_counted(n: int) -> dict[str, int]:
    """How they move when n SYNs are dropped at a full SYN queue and nothing else happens."""
    return {"TcpExt.ListenDrops": n, "TcpExt.TCPReqQFullDrop": n}


def forge_acks(peer: RawPeer, listener: Listener) -> dict[str, RawConnection]:
    """Send four ACKs with a cookie that the server did not give them; by what is wrong with each."""
    altered, foreign, shifted, invented = (peer.connection(listener) for _ in range(4))
    for connection in (altered, foreign, shifted):
        connection.syn()
    altered.send("A", ack=altered.ack + 1000)
    foreign.send("A", ack=altered.ack)
    shifted.send("A", seq=shifted.seq + 1000)
    invented.send("A", ack=0x12345678)
    return {
        "the cookie plus 1000": altered,
        "another port's cookie": foreign,
        "another sequence number": shifted,
        "no SYN before": invented,
    }


def answers_to(acks: dict[str, RawConnection]) -> dict[str, str]:
    """The flags of the segments that answered the ACKs."""
    return {what: str(ack.wait(lambda reply: reply.flags != "SA").flags) for what, ack in acks.items()}


def is_taken(listener: Listener, peer: RawPeer, offset: int) -> bool:
    """Whether the listener takes an ACK whose number is `offset` more than the cookie's."""

    def judged() -> tuple[int, int]:
        counted = counters(listener.host).TcpExt
        return counted.SyncookiesRecv, counted.SyncookiesFailed

    earlier = judged()
    connection = peer.connection(listener)
    connection.syn()
    connection.send("A", ack=connection.ack + offset)
    until(lambda: judged() != earlier, what="the ACK to be judged")
    return judged()[0] > earlier[0]


def past_the_start() -> None:
    """Wait until a listener that has sent no cookie looks like one that has not, which is so from 7 minutes after boot.

    When it sent the last one is 0 at first, and so are jiffies five minutes after boot. In the two minutes from then on
    that was lately; before Linux 5.5 ("tcp: tighten acceptance of ACKs not matching a child socket") also in the five
    minutes before (include/net/tcp.h, tcp_synq_no_recent_overflow()).
    """
    left = START - time.clock_gettime(time.CLOCK_BOOTTIME)
    if left > 0:
        let_pass(left, what="jiffies to be beyond the two minutes from 0 on")


def take_cookie_elsewhere(server: Host, peer: RawPeer) -> RawConnection:
    """Bring a fresh cookie to a listener that has sent none: the one before it, at the same port, sent this one."""
    first = listen(server, 7)
    connection = peer.connection(first)
    connection.syn()
    port = first.port
    first.close()
    listen(server, 7, port=port)
    connection.send("A")
    return connection


def mss_kept(family: socket.AddressFamily, mss: int) -> int:
    """What a cookie makes of the MSS that a client offers."""
    return max(each for each in MSS_TABLE[family] if each <= mss)


def offsets_taken(family: socket.AddressFamily) -> list[int]:
    """How far from the cookie of a raw peer's SYN the numbers are that the kernel takes as well.

    The MSS is in the number, as its place in a table of four: the other three places are as good.
    """
    table = MSS_TABLE[family]
    own = max(place for place, mss in enumerate(table) if mss <= dict(SYN_OPTIONS)["MSS"])
    return [place - own for place in range(len(table))]
