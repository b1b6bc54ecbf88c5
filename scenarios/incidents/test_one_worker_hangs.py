"""One of four workers hangs, and a quarter of the clients with it: the workers share the port with SO_REUSEPORT.

Each worker has a listening socket and a queue of its own, and the kernel shares the connections out by a hash, whoever
is free. An operator sees four rows in `ss -lnt` for the port, one of them with a Recv-Q above its Send-Q; to the
clients it looks like a bad network, as whoever tries once more is served most of the time.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from harness.instruments.shared_port import Crowd
from harness.laws import since
from harness.laws.ranges import at_least, between
from harness.observe import ss
from harness.traffic.nginx import Nginx
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair

WORKERS, BACKLOG, CLIENTS = 4, 5, 120
# A quarter; at least more than find room in a queue.
A_SHARE = between(BACKLOG + 2, CLIENTS // 2)
OF_HOST = {"net.core.somaxconn": 4096, "net.ipv4.tcp_max_syn_backlog": 4096}
REQUEST = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"


def queues(nginx: Nginx) -> list[tuple[int, int]]:
    """(Recv-Q, Send-Q) of each row of `ss -lnt`, the longest queue first."""
    rows = ss.rows(nginx.host, "-lnt", f"sport = :{nginx.port}")
    return sorted((row.queues for row in rows), reverse=True)


@pytest.mark.slow(10)
@pytest.mark.claim("incidents.one-worker-hangs")
def test_one_worker_hangs(claim: ClaimRun, pair: Pair) -> None:
    server = pair.server
    with claim.control("four workers, none of which hangs") as control:
        nginx = Nginx(server, f"80 reuseport backlog={BACKLOG}", workers=WORKERS)
        crowd = Crowd(pair.client, nginx, CLIENTS, request=REQUEST)
        control.expect("clients that are served", crowd.seen().served, CLIENTS)
        control.expect("(Recv-Q, Send-Q) of each row of ss -lnt", queues(nginx), [(0, BACKLOG)] * WORKERS)

    with claim.effect("one of them hangs, and 120 clients come: the symptom") as effect:
        hanging = nginx.stall_one()
        crowd = Crowd(pair.client, nginx, CLIENTS, stuck=lambda: nginx.waiting_at(hanging), request=REQUEST)

        def knocked(times: int) -> bool:
            return effect.delta(pair.client).TcpExt.TCPSynRetrans >= times * crowd.seen().outside

        until(lambda: knocked(3), deadline=60, what="those outside to knock again")
        full, *others = queues(nginx)
        effect.compare("(Recv-Q, Send-Q) of the first row of ss -lnt", full, document=(BACKLOG + 1, BACKLOG))
        effect.compare("of the others", others, document=[(0, BACKLOG)] * (WORKERS - 1))
        seen = crowd.seen()
        effect.compare("clients that are not served", CLIENTS - seen.served, document=A_SHARE)
        # Where a full queue answers SYNs all the same, its clients take themselves for connected.
        turned_away = at_least(1 if since("accept-queue-full-drops-syns") else 0)
        effect.compare("of these, not even connected", seen.outside, document=turned_away)
    with claim.effect(f"what does nothing: {', '.join(OF_HOST)}") as effect:
        for knob, value in OF_HOST.items():
            server.sysctl[knob] = value
        until(lambda: knocked(1), deadline=60, what="those outside to knock again")
        effect.compare("clients that are not served", CLIENTS - crowd.seen().served, document=A_SHARE)
        effect.compare("(Recv-Q, Send-Q) of the first row of ss -lnt", queues(nginx)[0], document=full)
    with claim.effect("the remedy: the worker is killed, and nginx starts another") as effect:
        served = crowd.seen().served
        os.kill(hanging, signal.SIGKILL)
        until(lambda: not crowd.seen().in_vain, deadline=60, what="those who waited to be served")
        now = crowd.seen().served - served
        effect.compare("clients of before that are served now", now, document=at_least(BACKLOG + 1))
        crowd = Crowd(pair.client, nginx, CLIENTS, request=REQUEST)
        effect.compare("clients that come now and are served", crowd.seen().served, document=CLIENTS)
    with claim.effect("a remedy: no reuseport, one queue for all workers, of which one hangs") as effect:
        nginx = Nginx(server, f"81 backlog={WORKERS * BACKLOG}", workers=WORKERS)
        nginx.stall_one()
        crowd = Crowd(pair.client, nginx, CLIENTS, request=REQUEST)
        effect.compare("clients that are served", crowd.seen().served, document=CLIENTS)
