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

from harness.laws.ranges import at_least, between
from harness.observe import counters, ss
from harness.traffic import connect
from harness.traffic.connection import peek
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


class Crowd:
    """Clients of an nginx that ask as soon as they are let in."""

    def __init__(self, pair: Pair, nginx: Nginx) -> None:
        self._client = pair.client
        self._clients = connect(pair.client, (nginx.host.ip, nginx.port), CLIENTS)
        self._asked: set[int] = set()

    def served(self) -> int:
        """How many have an answer by now."""
        for each in self._clients.sockets:
            if each.fileno() not in self._asked:
                self._asked.add(each.fileno())
                each.sendall(REQUEST)
        return sum(peek(each) != b"" for each in self._clients.sockets)

    @property
    def outside(self) -> int:
        """How many are not even connected."""
        return self._clients.pending

    def unserved(self) -> int:
        """How many have no answer, when a round of knocks has let nobody in.

        A busy worker's full queue, too, loses an ACK now and then: the server repeats its SYN-ACK a second later, and
        the client is served. Nobody knocks any more when all are served.
        """
        left = CLIENTS
        while True:
            knocks = self._knocks() + max(1, self.outside)
            until(
                lambda knocks=knocks: self.served() == CLIENTS or self._knocks() >= knocks,  # type: ignore[misc]
                deadline=60,
                what="those outside to knock again",
            )
            if left == (left := CLIENTS - self.served()):
                return left

    def _knocks(self) -> int:
        """How often the client has sent a SYN again."""
        return counters(self._client).TcpExt.TCPSynRetrans


def queues(nginx: Nginx) -> list[tuple[int, int]]:
    """(Recv-Q, Send-Q) of each row of `ss -lnt`, the longest queue first."""
    rows = ss.rows(nginx.host, "-lnt", f"sport = :{nginx.port}")
    return sorted((row.queues for row in rows), reverse=True)


def hang_one(nginx: Nginx) -> int:
    """Let one of its workers hang, as in a call that does not return; which."""
    worker = nginx.workers()[0]
    os.kill(worker, signal.SIGSTOP)
    return worker


@pytest.mark.slow(10)
@pytest.mark.claim("incidents.one-worker-hangs")
def test_one_worker_hangs(claim: ClaimRun, pair: Pair) -> None:
    server = pair.server
    with claim.control("four workers, none of which hangs") as control:
        nginx = Nginx(server, f"80 reuseport backlog={BACKLOG}", workers=WORKERS)
        crowd = Crowd(pair, nginx)
        until(lambda: crowd.served() == CLIENTS, deadline=60, what="all clients to be served")
        control.expect("(Recv-Q, Send-Q) of each row of ss -lnt", queues(nginx), [(0, BACKLOG)] * WORKERS)

    with claim.effect("one of them hangs, and 120 clients come: the symptom") as effect:
        hanging, crowd = hang_one(nginx), Crowd(pair, nginx)
        unserved = crowd.unserved()
        full, *others = queues(nginx)
        effect.compare("(Recv-Q, Send-Q) of the first row of ss -lnt", full, document=(BACKLOG + 1, BACKLOG))
        effect.compare("of the others", others, document=[(0, BACKLOG)] * (WORKERS - 1))
        effect.compare("clients that are not served", unserved, document=A_SHARE)
        effect.compare("of these, not even connected", crowd.outside, document=at_least(1))
    with claim.effect(f"what does nothing: {', '.join(OF_HOST)}") as effect:
        for knob, value in OF_HOST.items():
            server.sysctl[knob] = value
        unserved = crowd.unserved()
        effect.compare("clients that are not served", unserved, document=A_SHARE)
        effect.compare("(Recv-Q, Send-Q) of the first row of ss -lnt", queues(nginx)[0], document=full)
    with claim.effect("the remedy: the worker is killed, and nginx starts another") as effect:
        served = crowd.served()
        os.kill(hanging, signal.SIGKILL)
        until(lambda: crowd.served() > served + BACKLOG, deadline=60, what="those who waited to be served")
        effect.compare("clients of before that are served now", crowd.served() - served, document=at_least(BACKLOG + 1))
        crowd = Crowd(pair, nginx)
        until(lambda: crowd.served() == CLIENTS, deadline=60, what="all clients to be served")
        effect.compare("clients that come now and are served", crowd.served(), document=CLIENTS)
    with claim.effect("a remedy: no reuseport, one queue for all workers, of which one hangs") as effect:
        nginx = Nginx(server, f"81 backlog={WORKERS * BACKLOG}", workers=WORKERS)
        hang_one(nginx)
        crowd = Crowd(pair, nginx)
        until(lambda: crowd.served() == CLIENTS, deadline=60, what="all clients to be served")
        effect.compare("clients that are served", crowd.served(), document=CLIENTS)
