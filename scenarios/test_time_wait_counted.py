"""How TIME-WAIT is counted: the pipelines of the documents, character for character."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from harness.evidence import port
from harness.observe import count, shell, sockets, ss
from harness.traffic import connect, listen
from harness.traffic.closing import leave_time_wait
from harness.waiting import until
from scenarios.recipes import BY_PORT, COUNT, NETSTAT, NETSTAT_AS_PRINTED, PER_PEER, histogram

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lan, Pair


@pytest.mark.claim("time-wait.count")
def test_count(claim: ClaimRun, pair: Pair) -> None:
    server = pair.server
    listener = listen(server)
    with claim.control("no TIME-WAIT") as control:
        control.expect("inet_diag", count(server, "state time-wait"), 0)
        control.expect("netstat, as it is meant", shell.printed(server, NETSTAT).strip(), "0")
        control.expect("ss", shell.printed(server, COUNT).strip(), "1")
    with claim.effect("7 TIME-WAIT") as effect:
        leave_time_wait(pair.client, listener, 7, closer="server")
        effect.premise("inet_diag", count(server, "state time-wait"), 7)
        # The header is a line, too.
        effect.compare(COUNT, shell.printed(server, COUNT).strip(), document="7", kernel="8")
        effect.compare(NETSTAT, shell.printed(server, NETSTAT).strip(), document="7")
        # The quotation marks become part of what is searched for, and wc takes the dash and l for a file.
        printed = NETSTAT_AS_PRINTED
        effect.compare(printed, shell.printed(server, printed).strip(), document="7", kernel="")
        counted = shell.printed(server, printed.replace("–", "-")).strip()
        effect.compare("the same with its dash mended", counted, document="7", kernel="0")


@pytest.mark.claim("time-wait.by-port")
def test_by_port(claim: ClaimRun, pair: Pair) -> None:
    https, other = listen(pair.server, port=443), listen(pair.server, port=8443)
    leave_time_wait(pair.client, other, 3, closer="server")
    with claim.control("3 TIME-WAIT of another port") as control:
        control.expect("inet_diag", count(pair.server, "state time-wait"), 3)
        control.expect("rows", ss.parse(shell.printed(pair.server, BY_PORT)), [])
    with claim.effect("5 TIME-WAIT of port 443 beside them") as effect:
        left = leave_time_wait(pair.client, https, 5, closer="server")
        rows = ss.parse(shell.printed(pair.server, BY_PORT))
        peers = port(sorted(int(row.remote_port) for row in rows))
        effect.compare("ports of the peers", peers, document=sorted(number for _, (_, number) in left))
        shown = sockets(pair.server, "state time-wait sport = :443")
        effect.premise("inet_diag", port(sorted(end.remote[1] for end in shown)), peers)
        timers = sum(row.timer is not None and row.timer.kind == "timewait" for row in rows)
        effect.compare("rows with the timer", timers, document=5)


@pytest.mark.claim("time-wait.histogram")
def test_histogram(claim: ClaimRun, pair: Pair) -> None:
    server = pair.server
    listener = listen(server)
    with claim.control("a listener alone") as control:
        control.expect("the recipe", histogram(server), {"LISTEN": 1})
    with claim.effect("two listeners, and connections in several states") as effect:
        listen(server)
        leave_time_wait(pair.client, listener, 5, closer="server")
        clients = connect(pair.client, listener, 7, wait=True)
        listener.accept(7)
        for leaving in clients.each[:3]:
            leaving.socket.close()
        until(lambda: count(server, "state close-wait") == 3, what="three FINs at the server")
        for closing in listener.accepted[-2:]:
            closing.close()
        until(lambda: count(server, "state fin-wait-2") == 2, what="two FINs acknowledged")
        wanted = {"LISTEN": 2, "TIME-WAIT": 5, "CLOSE-WAIT": 3, "ESTAB": 2, "FIN-WAIT-2": 2}
        effect.premise("inet_diag", dict(Counter(end.state for end in sockets(server))), wanted)
        effect.compare("the recipe", histogram(server), document=wanted)


def per_peer(server: Host) -> dict[str, int]:
    """What the recipe prints: behind each number two words, as a rule the peer's address and the server's."""
    rows = (line.split(maxsplit=1) for line in shell.printed(server, PER_PEER).splitlines())
    return {peer: int(number) for number, peer in rows}


def taken_for_peers(server: Host) -> dict[str, int]:
    """What the recipe takes for peers: the header, whose last words depend on ss and its columns; the listener."""
    header = shell.printed(server, "ss -tan 'sport = :443'").splitlines()[0].split()
    cut = [word.partition(":")[0] for word in header[:-3:-1]]
    return {" ".join(cut): 1, "[ [fd00" if ":" in server.ip else f"0.0.0.0 {server.ip}": 1}


@pytest.mark.claim("time-wait.per-peer")
def test_per_peer(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    server, *clients = lan(4).hosts
    listener = listen(server, port=443)
    with claim.control("a listener alone") as control:
        control.expect("the recipe", per_peer(server), taken_for_peers(server))
    with claim.effect("4, 2 and 1 connections of three clients, one of them open") as effect:
        for client, n in zip(clients, (4, 2), strict=False):
            leave_time_wait(client, listener, n, closer="server")
        connect(clients[2], listener, 1, wait=True)
        until(lambda: count(server, "exclude listening sport = :443") == 7, what="seven connections")
        wanted = {f"{client.ip} {server.ip}": n for client, n in zip(clients, (4, 2, 1), strict=True)}
        shown = Counter(f"{end.remote[0]} {end.local[0]}" for end in sockets(server, "exclude listening sport = :443"))
        effect.premise("inet_diag", dict(shown), wanted)
        # Of an IPv6 address sed leaves what stands before its first colon.
        account = {"[fd00 [fd00": 7} if ":" in server.ip else wanted
        effect.compare("the recipe", per_peer(server), document=wanted, kernel=account | taken_for_peers(server))
