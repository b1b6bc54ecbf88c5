"""A server that serves no more, however hard it is asked (document 000).

nginx has an accept queue of ten. Whoever comes while it is busy for a moment, and finds eleven waiting, is turned away:
wrk may open ever more connections, no more are served than before. `ss -lnt` shows a Recv-Q above the Send-Q, and
`netstat -s | grep overflowed` a number that grows. The documents' cure is a longer queue, which takes somaxconn, the
backlog and a restart, all three.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness import waiting
from harness.laws.kernel import running
from harness.laws.ranges import at_least, between
from harness.observe import accept_queue
from harness.traffic import drop
from harness.traffic.nginx import Nginx
from harness.traffic.wrk import Wrk

if TYPE_CHECKING:
    from harness.claims.phases import Phase
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair
    from harness.laws.ranges import Range

# Of a machine that is ten times as slow. A deadline measures nothing.
until = partial(waiting.until, deadline=60.0)

SOMAXCONN = "net.core.somaxconn"
SHORT, LONG = 10, 5000
ASKING = 100


def served_by_ten() -> int | Range:
    """How many clients a queue of ten lets be served: eleven have room, and wrk's own first look is one of them.

    Before 5ea8ea2cb7f1, 4.10, up to two SYNs were answered at a full queue, and served when they asked again.
    """
    return SHORT if running() >= "4.10" else between(SHORT, SHORT + 2)


class Look(NamedTuple):
    """What an operator sees: the listener's (Recv-Q, Send-Q) while it is busy, overflows, and clients served after."""

    recv_q: int
    send_q: int
    overflowed: int
    served: int


def overflowed(server: Host) -> int:
    """The number of `netstat -s | grep overflowed`; 0 when it prints nothing."""
    printed = server.run("sh", "-c", "netstat -s | grep overflowed", check=False).stdout
    return int(printed.split()[0]) if printed else 0


def ask(pair: Pair, nginx: Nginx, phase: Phase, connections: int = ASKING) -> Look:
    """Let wrk open so many connections while nginx is busy for a moment, and see how many are served then.

    Each knocks once: those that are turned away come again after a second, when nginx is long idle, and would be served
    by an idle server. wrk itself opens one connection more, to look whether there is a server.
    """
    overflows, served = overflowed(pair.server), nginx.clients_served()
    refused = phase.delta(pair.server).TcpExt.ListenOverflows
    nginx.stall()
    with drop(pair.server, "S", dport=nginx.port, first=connections + 2):
        wrk = Wrk(pair.client, nginx.url, connections=connections)

        def knocked() -> int:
            return accept_queue(pair.server, nginx.port).waiting + phase.delta(pair.server).TcpExt.ListenOverflows

        until(lambda: knocked() - refused >= connections + 1, what=f"{connections + 1} clients at the door")
        (line,) = pair.server.run("sh", "-c", f"ss -lnt | grep {nginx.port}").stdout.splitlines()
        _, recv_q, send_q, *_ = line.split()
        overflows = overflowed(pair.server) - overflows
        nginx.resume()
        until(lambda: nginx.clients_served() - served >= int(recv_q) - 1, what="those that wait to be served")
        phase.note("requests served in that moment", wrk.stop().requests)
    return Look(int(recv_q), int(send_q), overflows, nginx.clients_served() - served)


def ill(pair: Pair) -> Nginx:
    """The server as the document has it."""
    pair.server.sysctl[SOMAXCONN] = SHORT
    return Nginx(pair.server, f"3000 backlog={SHORT}")


@pytest.mark.claim("incidents.served-no-more")
def test_served_no_more(claim: ClaimRun, pair: Pair) -> None:
    server, nginx = pair.server, ill(pair)
    served: list[tuple[float, float]] = []
    for connections in (20, 50, 200):
        with claim.effect(f"the symptom: {connections} connections at a queue of ten") as effect:
            look = ask(pair, nginx, effect, connections)
            effect.compare("(Recv-Q, Send-Q) of ss -lnt | grep 3000", look[:2], document=(SHORT + 1, SHORT))
            effect.compare(
                "netstat -s | grep overflowed, by how much it grew",
                look.overflowed,
                document=at_least(connections - SHORT),
            )
            counted = effect.delta(server).TcpExt.ListenOverflows
            effect.premise("the same by the kernel's counter, later", counted, at_least(look.overflowed))
            effect.compare("clients served", look.served, document=served_by_ten())
            served.append((connections, look.served))
            effect.series("clients served, queue of ten", served, unit="clients", x="clients")

    def remedy(title: str, *, helps: bool) -> None:
        """Ask once more; whether it helped is what the document says."""
        with claim.effect(title) as effect:
            look = ask(pair, nginx, effect)
            effect.compare("Send-Q", look.send_q, document=LONG if helps else SHORT)
            effect.compare("clients served, of 100", look.served, document=ASKING if helps else served_by_ten())
            effect.compare("handshakes refused", look.overflowed, document=0 if helps else at_least(ASKING - SHORT))

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
        look = ask(pair, nginx, control)
        control.expect(
            "(Send-Q, clients served, handshakes refused)",
            (look.send_q, look.served, look.overflowed),
            (LONG, ASKING, 0),
        )


@pytest.mark.claim("incidents.served-no-more")
def test_telling_the_clients(claim: ClaimRun, pair: Pair) -> None:
    """tcp_abort_on_overflow serves nobody more: what it changes is what those learn who are turned away."""
    server, nginx = pair.server, ill(pair)
    with claim.effect("tcp_abort_on_overflow 1") as effect:
        server.sysctl["net.ipv4.tcp_abort_on_overflow"] = 1
        look = ask(pair, nginx, effect)
        effect.compare("clients served, of 100", look.served, document=served_by_ten())
        # Since 4.10 a SYN at a full queue is dropped, not answered (5ea8ea2cb7f1): few get as far as a reset.
        effect.note("RSTs sent", effect.delta(server).Tcp.OutRsts)
    with claim.control("tcp_abort_on_overflow 0") as control:
        server.sysctl["net.ipv4.tcp_abort_on_overflow"] = 0
        look = ask(pair, nginx, control)
        control.expect("clients served, of 100", look.served, served_by_ten())
        control.expect("RSTs sent", control.delta(server).Tcp.OutRsts, 0)
