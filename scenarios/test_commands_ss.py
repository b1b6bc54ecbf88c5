"""The documents' lines with ss, character for character: does what an operator reads there agree with the kernel?

Each is given to a shell inside the host, and its answer is compared with inet_diag. Where a line miscounts, it is shown
by how much, and what would count right.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness import traffic, waiting
from harness.evidence import address, port, seconds, state, ticks
from harness.instruments.crowded_table import SLOTS, crowded_host
from harness.instruments.lifetimes import watch_orphan
from harness.instruments.one_moment import beside_count, beside_states
from harness.instruments.six_states import SIX_STATES, UNREAD, six_states
from harness.instruments.slabs import CHILD_EHASH, EHASH
from harness.laws.diag import times_shown_without_t
from harness.laws.ranges import at_least, at_most, between, one_of
from harness.laws.timers import TIME_WAIT
from harness.observe import count, shell, sockets, ss, tally
from harness.observe.bytecode import from_port, from_port_range
from harness.observe.sockets import handed_over
from harness.traffic import drop, listen
from harness.traffic.closing import churn, leave_time_wait
from scenarios import recipes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from harness.claims.record import ClaimRun
    from harness.evidence.kinds import Address, State
    from harness.lab import Host, Lan, Pair
    from harness.observe import Socket

# Of a machine that is ten times as slow. A deadline measures nothing.
until = partial(waiting.until, deadline=60.0)
connect = partial(traffic.connect, deadline=60.0)
leave = partial(leave_time_wait, deadline=60.0)

NOT_CONNECTIONS = ("LISTEN", "SYN-RECV", "TIME-WAIT")


class Row(NamedTuple):
    """What ss prints of a socket, each word as what it is."""

    state: State
    recv_q: int
    send_q: int
    local: Address
    remote: Address


def kinds(rows: Iterable[ss.Row]) -> list[Row]:
    """The rows, sorted."""
    return sorted(
        Row(state(row.state), row.recv_q, row.send_q, address(row.local), address(row.remote)) for row in rows
    )


def expected(connections: Iterable[Socket]) -> list[Row]:
    """The rows that ss should print for what inet_diag says."""
    return kinds(map(ss.expected, connections))


@pytest.mark.claim("commands.ss-tan")
def test_ss_tan(claim: ClaimRun, pair: Pair) -> None:
    def printed(line: str) -> list[Row]:
        return kinds(ss.parse(shell.printed(pair.server, line)))

    with claim.effect("a server with sockets in six states") as effect:
        six_states(pair)
        effect.compare("rows", printed("ss -tan"), document=expected(sockets(pair.server)))
        effect.compare("how many", len(printed("ss -tan")), document=13)
        half_open = sorted({(row.recv_q, row.send_q) for row in printed("ss -tan") if row.state == "SYN-RECV"})
        effect.compare("(Recv-Q, Send-Q) of the half-open ones", half_open, document=[(0, 0)])
    with claim.effect("1000 sockets more") as effect:
        leave(pair.server, listen(pair.client, 200), 1000)
        rows, there = beside_count(pair.server, lambda: printed("ss -tan"), "")
        effect.compare("how many", len(rows), document=there)
        effect.premise("by inet_diag", there, at_least(1000))
    if CHILD_EHASH in pair.server.sysctl:
        with claim.effect("600 ends of connections in a hash table of 16 slots") as effect:
            crowded = crowded_host(pair.server.lab, "crowded", 300)
            effect.premise("slots", int(crowded.sysctl[EHASH]), SLOTS)
            effect.compare("how many", len(ss.parse(shell.printed(crowded, "ss -tan"))), document=600)
    with claim.control("without -a: no listener, no half-open request and no TIME-WAIT") as control:
        shown = [end for end in sockets(pair.server) if end.state not in NOT_CONNECTIONS]
        control.expect("rows", printed("ss -tn"), expected(shown))
        control.expect("how many", len(shown), 6)


@pytest.mark.claim("commands.ss-lnt")
def test_ss_lnt(claim: ClaimRun, pair: Pair) -> None:
    server = pair.server
    server.sysctl["net.core.somaxconn"] = 4096
    small, *_ = (listen(server, backlog, port=number) for number, backlog in ((3000, 10), (8080, 128), (5921, 4000)))
    for n in (0, 7, 11):
        with claim.effect(f"three listeners, {n} connections wait at the one with backlog 10") as effect:
            connect(pair.client, small, n - small.waiting, wait=True)
            until(lambda n=n: small.waiting == n, what=f"{n} waiting")  # type: ignore[misc]
            printed = kinds(ss.parse(shell.printed(server, "ss -lnt")))
            effect.compare("rows", printed, document=expected(sockets(server, "state listening")))
            (row,) = ss.parse(shell.printed(server, "ss -lnt | grep 3000"))
            effect.compare("(Recv-Q, Send-Q) of ss -lnt | grep 3000", row.queues, document=(n, 10))
    with claim.control("the other sockets, and grep's other matches") as control:
        shown = ss.parse(shell.printed(server, "ss -lnt"))
        control.expect("rows that are no listener", kinds(row for row in shown if row.state != "LISTEN"), [])
        listen(server, 3000, port=9999)
        lines = shell.printed(server, "ss -lnt | grep 3000").count("\n")
        control.expect("lines of grep 3000 beside a backlog of 3000", lines, 2)
        small.close()
        control.expect("listeners when one has closed", len(ss.parse(shell.printed(server, "ss -lnt"))), 3)


@pytest.mark.claim("commands.ss-nt")
def test_ss_nt(claim: ClaimRun, pair: Pair) -> None:
    listener = six_states(pair)
    with claim.effect("a server with sockets in six states") as effect:
        shown = [end for end in sockets(pair.server) if end.state not in NOT_CONNECTIONS]
        printed = kinds(ss.parse(shell.printed(pair.server, "ss -nt")))
        effect.compare("rows", printed, document=expected(shown))
        effect.compare("connections", len(printed), document=6)
        unread = [row.recv_q for row in printed if row.recv_q > 1]
        effect.compare("Recv-Q of the one that was sent six bytes", unread, document=[len(UNREAD)])
        ports = {row.local.partition("]")[2] or row.local for row in ss.parse(shell.printed(pair.server, "ss -nt"))}
        effect.compare(
            "ports that are no numbers", [p for p in ports if not p.rpartition(":")[2].isdigit()], document=[]
        )
    with claim.control("the six bytes are read, and half of the connections are gone") as control:
        listener.accepted[-1].recv(100)
        for connection in listener.accept(3, deadline=60):
            connection.close()
        until(lambda: count(pair.server, "state established") == 1, what="one established connection")
        printed = kinds(ss.parse(shell.printed(pair.server, "ss -nt")))
        control.expect("Recv-Q", [row.recv_q for row in printed if row.state == "ESTAB"], [0])


@pytest.mark.claim("commands.ss-time-wait")
def test_ss_time_wait(claim: ClaimRun, pair: Pair) -> None:
    server, listener, left = pair.server, listen(pair.client, 200), 0

    def counted(line: str = recipes.COUNT, host: Host = server, wanted: str = "state time-wait") -> tuple[int, int]:
        """What a line counts, and how many there are at that moment."""
        return beside_count(host, lambda: shell.number(host, line), wanted)

    for n in (1, 20, 1000):
        with claim.effect(f"{n} sockets in TIME-WAIT") as effect:
            leave(server, listener, n - left)
            left = n
            number, there = counted()
            effect.premise("by inet_diag", there, between(1, n))
            effect.compare(recipes.COUNT, number, document=there, kernel=there + 1)
    with claim.effect("1000 while other connections come and go") as effect, churn(server, listen(pair.client)):
        of_port = f"dport = :{listener.port}"
        line = f"ss -Htan state time-wait '{of_port}' | wc -l"
        looks: list[tuple[int, int]] = []

        def seen_enough() -> bool:
            looks.append(counted(line, wanted=f"state time-wait {of_port}"))
            return len(looks) >= 3 and effect.delta(server).Tcp.ActiveOpens >= 100

        waiting.until(seen_enough, what="a hundred connections that come and go while it counts")
        effect.note("of their port, each time, and by inet_diag", looks)
        come = effect.delta(server).Tcp.ActiveOpens
        effect.premise("connections that came and went meanwhile", come, at_least(100))
        farthest = max(abs(number - there) for number, there in looks)
        effect.compare("how far from that: at most ten missed or seen twice", farthest, document=at_most(10))
    with claim.effect("none: the other side's end") as effect:
        effect.compare(recipes.COUNT, shell.number(pair.client, recipes.COUNT), document=0, kernel=1)
    with claim.control("one more connection, in FIN-WAIT-2, that no application holds") as control:
        orphan, closed = watch_orphan(pair.client, listen(server)), "state fin-wait-2"
        control.expect("by inet_diag", count(server, closed), 1)
        control.expect("ss -Htan state fin-wait-2 | wc -l", shell.number(server, f"ss -Htan {closed} | wc -l"), 1)
        line = f"ss -Htan state time-wait 'sport = :{orphan.port}' | wc -l"
        control.expect("of its port, ss -Htan state time-wait | wc -l", shell.number(server, line), 0)
    with claim.control("1000 and none, the header left out") as control:
        for host in (server, pair.client):
            number, there = counted("ss -Htan state time-wait | wc -l", host)
            control.expect(f"{host.name}: ss -Htan state time-wait | wc -l", number, there)


@pytest.mark.claim("commands.ss-timer-by-port")
def test_ss_timer_by_port(claim: ClaimRun, pair: Pair) -> None:
    line, https = recipes.BY_PORT, "state time-wait sport = :443"

    def timers() -> list[float]:
        """The seconds that ss prints beside each socket: `timer:(timewait,59sec,0)`, at a minute `1min`."""
        rows = ss.parse(shell.printed(pair.server, line))
        return sorted(row.timer.expires for row in rows if row.timer and row.timer.kind == "timewait")

    def left() -> list[float]:
        return sorted(end.timer.expires for end in sockets(pair.server, https) if end.timer)

    with claim.effect("four sockets in TIME-WAIT at port 443, three at 8443") as effect:
        began = time.monotonic()
        leave(pair.client, listen(pair.server, port=443), 4, closer="server")
        leave(pair.client, listen(pair.server, port=8443), 3, closer="server")
        effect.premise("of all ports, by inet_diag", count(pair.server, "state time-wait"), 7)
        before, printed, after = left(), timers(), left()
        effect.compare("rows", len(printed), document=4, kernel=4 * times_shown_without_t(filtered=True))
        effect.premise("rows by inet_diag", len(before), 4)
        # By our clock: what ss and inet_diag say comes of one and the same field. The timer may end a tick later.
        least = TIME_WAIT - (time.monotonic() - began)
        for expires in before:
            effect.premise("seconds left of a minute", seconds(expires), between(least - 0.1, TIME_WAIT + 0.1))
        # ss prints whole seconds, cut off; before and after it asked, the kernel said these.
        for expires in printed:
            effect.compare("seconds left", seconds(expires), document=between(int(min(after)), max(before)))
    with claim.effect("what the kernel hands over for such a filter; ss looks at each once more") as effect:
        for what, condition in (("a host's port", from_port(443)), ("from 443 to 443", from_port_range(443, 443))):
            effect.compare(f"sockets, by {what}", handed_over(pair.server, "state time-wait", condition), document=4)
    with claim.control("without a filter the kernel hands all of them over") as control:
        control.expect("sockets", handed_over(pair.server, "state time-wait", b""), 7)
    with claim.control("-t, which leaves every protocol but TCP out") as control:
        control.expect("rows", shell.printed(pair.server, line.replace("-o", "-to")).count("timer:"), 4)
    with claim.control("the other side's end, where 443 is the destination and nothing is in TIME-WAIT") as control:
        control.expect("rows", shell.printed(pair.client, line).count("timer:"), 0)
    with claim.control("a port without connections") as control:
        control.expect("rows", shell.printed(pair.server, line.replace("443", "444")).count("timer:"), 0)


@pytest.mark.claim("commands.awk-histogram")
def test_awk_histogram(claim: ClaimRun, pair: Pair) -> None:
    server = pair.server
    with claim.effect("a server with sockets in six states") as effect:
        six_states(pair)
        effect.compare("states counted", recipes.histogram(server), document=tally(server))
        effect.compare("states made", recipes.histogram(server), document=SIX_STATES)
    with claim.effect("1000 in TIME-WAIT more") as effect:
        leave(server, listen(pair.client, 200), 1000)
        counted, states = beside_states(server, lambda: recipes.histogram(server))
        effect.compare("states counted", counted, document=states)
        effect.premise("in TIME-WAIT, by inet_diag", states["TIME-WAIT"], at_least(1000))
    with claim.control("without NR>1 the header is a state of its own") as control:
        with_header = recipes.HISTOGRAM.replace("NR>1 ", "")
        control.expect("states", recipes.histogram(server, with_header)["State"], 1)
    with claim.control("the other side's end, where nothing is in TIME-WAIT") as control:
        control.expect("states counted", "TIME-WAIT" in recipes.histogram(pair.client), wanted=False)


@pytest.mark.claim("commands.awk-per-peer")
def test_awk_per_peer(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    server, two, three = lan(3).hosts
    ipv6 = server.family == socket.AF_INET6

    def five_connections(listener: traffic.Listener, server_address: str) -> None:
        for peer, n in ((two, 2), (three, 3)):
            connect(peer, (server_address, 443), n, wait=True)
        until(lambda: listener.waiting == 5, what="five connections")

    with claim.effect("two connections of one peer and three of another") as effect:
        listener = listen(server, port=443)
        five_connections(listener, server.ip)
        printed, wanted = recipes.peers(server), {two.ip: 2, three.ip: 3}
        # The header and the listener are peers to it; of an IPv6 address it leaves what stands before the first colon.
        merged = {"[": 1, "[fd00": 5} if ipv6 else {**wanted, "0.0.0.0": 1}
        header = set(printed) - set(merged)
        counted = {peer: n for peer, n in printed.items() if peer not in header}
        effect.compare("peers", counted, document=wanted, kernel=merged)
        effect.compare("lines printed", len(printed), document=2, kernel=len(merged) + 1)
        effect.premise("the line that is the header", header, one_of({"Process"}, {"Address"}, {"Peer"}))
    listener.close()
    with claim.effect("the same peers over IPv4 at a server that listens on [::], as most do") as effect:
        with listen(server, 10, port=443, address="::") as dual_stack:
            five_connections(dual_stack, server.address(socket.AF_INET))
            wanted = {host.address(socket.AF_INET): n for host, n in ((two, 2), (three, 3))}
            # Such a peer is [::ffff:10.1.0.1]:40000, and nothing stands before the first colon.
            counted = {peer: n for peer, n in recipes.peers(server).items() if peer not in header}
            effect.compare("peers", counted, document=wanted, kernel={"*": 1, "[": 5})
    with claim.effect("four more of one peer, in TIME-WAIT") as effect:
        listener = listen(server, port=443)
        leave(two, listener, 4, closer="server")
        five_connections(listener, server.ip)
        shown = Counter(end.remote[0] for end in sockets(server, "exclude listening sport = :443"))
        effect.premise("by inet_diag", dict(shown), {two.ip: 6, three.ip: 3})
        counted = {peer: n for peer, n in recipes.peers(server).items() if peer not in header}
        merged = {"[": 1, "[fd00": 9} if ipv6 else {**shown, "0.0.0.0": 1}
        effect.compare("peers", counted, document=dict(shown), kernel=merged)
    listener.close()
    with claim.control(
        "what to write instead: the header and the listener left out, and only the port cut off"
    ) as control:
        five_connections(listen(server, port=443), server.ip)
        written = "[{}]" if ipv6 else "{}"
        wanted = {written.format(two.ip): 6, written.format(three.ip): 3}
        control.expect("peers, those in TIME-WAIT among them", recipes.peers(server, recipes.PER_PEER_MENDED), wanted)


@pytest.mark.ipv4_only("-4 lists IPv4 alone, which is shown with IPv6 beside it")
@pytest.mark.claim("commands.ss-info")
def test_ss_info(claim: ClaimRun, pair: Pair) -> None:
    client, line = pair.client, "ss -4 --info"
    listener = listen(pair.server, 10)
    clients = connect(client, listener, 2, wait=True)
    listener.accept(2)

    def printed() -> dict[int, dict[str, float]]:
        """The numbers that ss prints of each connection, by its local port."""
        rows = ss.parse(shell.printed(client, line))
        return {int(row.local_port): row.numbers for row in rows if "rto" in row.numbers}

    def by_kernel() -> dict[int, dict[str, float]]:
        """The same from inet_diag."""
        infos = {end.local[1]: end.info for end in sockets(client, family=socket.AF_INET)}
        return {
            number: {"rto": info.rto * 1000, "rtt": info.rtt * 1000, "mss": info.snd_mss, "cwnd": info.snd_cwnd}
            | ({"backoff": info.backoff} if info.backoff else {})
            for number, info in infos.items()
            if info
        }

    def both() -> tuple[dict[int, dict[str, float]], dict[int, dict[str, float]]] | None:
        """What ss prints and what the kernel says, from a moment in which nothing changed; else None."""
        before, seen, after = by_kernel(), printed(), by_kernel()
        return (seen, after) if before == after else None

    with claim.effect("two connections, one of which has sent what nobody acknowledges") as effect:
        lost = drop(client, sport=listener.port)
        clients[0].socket.send(b"request")
        until(lambda: effect.delta(client).Tcp.RetransSegs >= 3, what="three retransmissions")
        shown = [row for row in ss.parse(shell.printed(client, line)) if row.state == "ESTAB"]
        effect.compare("rows", len(shown), document=2, kernel=2 * times_shown_without_t(filtered=False))
        seen, said = until(both, what="a moment in which nothing changes") or ({}, {})
        effect.compare("connections", port(sorted(seen)), document=sorted(client.port for client in clients))
        for name, connection in zip(("the one that retransmits", "the idle one"), clients, strict=True):
            for what, value in said[connection.port].items():
                measured, near = seen[connection.port][what], (value * 0.999 - 0.001, value * 1.001 + 0.001)
                if what in ("rto", "rtt"):  # milliseconds
                    measured, near = seconds(measured / 1000), (near[0] / 1000, near[1] / 1000)
                effect.compare(f"{what} of {name}", measured, document=between(*near))  # ss prints six digits
        rto = seen[clients[1].port]["rto"]
        in_ms = ticks(round(rto))
        effect.compare("rto on a LAN, in ms (the document's example: 216)", in_ms, document=between(200, 300))
        effect.premise("rto that has doubled", seen[clients[0].port]["rto"] > rto, True)
        lost.lift()
    with claim.control("an IPv6 connection, which -4 leaves out and -6 lists") as control:
        with listen(pair.server, 10, port=8443, address="::"):
            connect(client, (pair.server.address(socket.AF_INET6), 8443), wait=True)
            control.expect("lines with its port", shell.printed(client, line).count(":8443"), 0)
            control.expect("lines with its port, -6", shell.printed(client, "ss -6 --info").count(":8443"), 1)
