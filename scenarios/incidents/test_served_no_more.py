"""A server that serves no more, however hard it is asked (document 000).

nginx has an accept queue of ten. Whoever comes while it is busy for a moment, and finds eleven waiting, is turned away
and comes again a second later: wrk may open ever more connections, no more are served at once than before. `ss -lnt`
shows a Recv-Q above the Send-Q, and `netstat -s | grep overflowed` a number that grows. The documents' cure is a longer
queue, which takes somaxconn, the backlog and a restart, all three.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.instruments.rush import rush
from harness.laws.ranges import at_least
from harness.traffic.nginx import Nginx

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair

SOMAXCONN = "net.core.somaxconn"
SHORT, LONG = 10, 5000
ASKING = 100


def ill(server: Host) -> Nginx:
    """The server as the document has it."""
    server.sysctl[SOMAXCONN] = SHORT
    return Nginx(server, f"3000 backlog={SHORT}")


@pytest.mark.claim("incidents.served-no-more")
def test_served_no_more(claim: ClaimRun, pair: Pair) -> None:
    server, nginx = pair.server, ill(pair.server)
    served: list[tuple[float, float]] = []
    for connections in (20, 50, 200):
        with claim.effect(f"the symptom: {connections} connections at a queue of ten") as effect:
            seen = rush(pair.client, nginx, connections)
            queues = (seen.recv_q, seen.send_q)
            effect.compare("(Recv-Q, Send-Q) of ss -lnt | grep 3000", queues, document=(SHORT + 1, SHORT))
            grew = "netstat -s | grep overflowed, by how much it grew"
            effect.compare(grew, seen.overflowed, document=at_least(connections - SHORT))
            counted = effect.delta(server).TcpExt.ListenOverflows
            effect.compare("the same by the kernel's counter, later", counted, document=at_least(seen.overflowed))
            served.append((connections, seen.served))
            more = seen.served - served[0][1]
            effect.compare("clients served at once more than of 20", more, document=0)
            effect.compare("clients that have to come again", connections - seen.served, document=at_least(1))
            effect.series("clients served at once, queue of ten", served, unit="clients", x="clients")
            effect.note("requests served in that moment", seen.requests)

    def remedy(title: str, *, helps: bool) -> None:
        """Ask once more; whether it helped is what the document says."""
        with claim.effect(title) as effect:
            seen = rush(pair.client, nginx, ASKING)
            effect.compare("Send-Q", seen.send_q, document=LONG if helps else SHORT)
            wanted = ASKING if helps else served[0][1]
            effect.compare("clients served at once, of 100", seen.served, document=wanted)
            effect.compare("handshakes refused", seen.overflowed, document=0 if helps else at_least(ASKING - SHORT))
            effect.note("requests served in that moment", seen.requests)

    server.sysctl["net.ipv4.tcp_max_syn_backlog"] = 20_000
    nginx.restart()
    remedy("what does nothing: tcp_max_syn_backlog 20000, even with a restart", helps=False)
    server.sysctl[SOMAXCONN] = LONG
    remedy("half a remedy: somaxconn 5000, nginx left running", helps=False)
    nginx.restart()
    remedy("half a remedy: somaxconn 5000, nginx restarted with its backlog of ten", helps=False)
    nginx.configure(f"3000 backlog={LONG}")
    remedy("half a remedy: both set, nginx neither restarted nor reloaded", helps=False)
    nginx.reload()
    remedy("the remedy: both set, nginx reloaded, which calls listen() again as the backlog has changed", helps=True)
    server.sysctl[SOMAXCONN] = SHORT
    nginx.restart()
    remedy("half a remedy: backlog=5000, nginx restarted, somaxconn ten", helps=False)
    server.sysctl[SOMAXCONN] = LONG
    nginx.reload()
    remedy("half a remedy: somaxconn raised after that, nginx reloaded, for which nothing has changed", helps=False)
    nginx.restart()
    with claim.control("the cause removed: both set, nginx restarted") as control:
        seen = rush(pair.client, nginx, ASKING)
        measured = (seen.send_q, seen.served, seen.overflowed)
        control.expect("(Send-Q, clients served at once, handshakes refused)", measured, (LONG, ASKING, 0))
        control.note("requests served in that moment", seen.requests)


@pytest.mark.claim("incidents.served-no-more")
def test_telling_the_clients(claim: ClaimRun, pair: Pair) -> None:
    """tcp_abort_on_overflow serves nobody more: what it changes is what those learn who are turned away."""
    server = pair.server
    nginx = ill(server)
    with claim.control("tcp_abort_on_overflow 0") as control:
        usual = rush(pair.client, nginx, ASKING)
        control.expect("clients that have to come again, of 100", ASKING - usual.served, at_least(1))
        control.expect("RSTs sent while nginx is busy", usual.resets, 0)
        control.note("requests served in that moment", usual.requests)
    with claim.effect("tcp_abort_on_overflow 1") as effect:
        server.sysctl["net.ipv4.tcp_abort_on_overflow"] = 1
        seen = rush(pair.client, nginx, ASKING)
        effect.compare("clients served at once, of 100", seen.served, document=usual.served)
        # Where a SYN at a full queue is dropped, not answered, few get as far as a reset.
        effect.note("RSTs sent while nginx is busy", seen.resets)
        effect.note("requests served in that moment", seen.requests)
