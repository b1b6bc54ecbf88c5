"""What TIME-WAIT costs: ports, memory, time; how to count it, and what the documents advise against it."""

from __future__ import annotations

import fcntl
import itertools
import re
import socket
import statistics
import struct
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import Forbidden, ProgramFailed, Unsupported
from harness.lab.netns import Namespace
from harness.laws.kernel import running
from harness.laws.ranges import at_least, at_most, between
from harness.laws.timers import about
from harness.observe import count, kernel_log, sockets
from harness.observe.memory import cache, total
from harness.traffic import connect, drop, flood, listen
from harness.traffic.closing import leave_time_wait
from harness.traffic.nginx import Nginx
from harness.traffic.short_connections import ShortConnections, keep_asking
from harness.traffic.wrk import Wrk
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.claims.phases import Phase
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lan, Pair
    from harness.traffic import Listener

PORT_RANGE = "net.ipv4.ip_local_port_range"
MAX_TW_BUCKETS = "net.ipv4.tcp_max_tw_buckets"
EHASH = "net.ipv4.tcp_ehash_entries"
CHILD_EHASH = "net.ipv4.tcp_child_ehash_entries"

# The default range has 28,232 ports (28,233 before 4.2). A hundredth of it, and of the document's 1000 a second.
DEFAULT_PORTS = 28232
PORTS, RATE = 282, 10
# connect() tries the ports of one parity first: a range of an odd number would hide one from each connect().
assert PORTS % 2 == 0


def give_ports(host: Host, n: int) -> None:
    """Leave a host so many ports for its connect() calls."""
    host.sysctl[PORT_RANGE] = f"{40000} {40000 + n - 1}"


def shell(host: Host, command: str) -> str:
    """What a command line prints on a host; its errors are thrown away, as its exit status is by a pipeline."""
    return host.run("sh", "-c", command, check=False).stdout


@contextmanager
def alone() -> Iterator[None]:
    """The tests of this file that make thousands of sockets take turns: memory and processors are the machine's."""
    with Path(__file__).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# Ports.


@pytest.mark.slow(75)
@pytest.mark.claim("time-wait.exhausts-ports")
def test_exhausts_ports(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    server, *clients = lan(4).hosts
    for client in clients:
        give_ports(client, PORTS)
    fast = ShortConnections(clients[0], [listen(server)], RATE)
    slow = ShortConnections(clients[1], [listen(server)], RATE * 0.4)
    spared = ShortConnections(clients[2], [listen(server)], RATE, closer="server")
    with claim.effect("282 ports, 10 short connections a second: a hundredth of 28,232 and 1000") as effect:
        keep_asking([fast, slow, spared], 75)
        effect.series("TIME-WAIT", fast.waiting, unit="sockets")
        effect.compare("connections before the first failure", fast.before_failure, document=PORTS)
        effect.compare("the second of it", fast.first_failure, document=between(PORTS / RATE, 58))
        effect.premise("errors", set(fast.errors), {"EADDRNOTAVAIL"})
        in_a_minute = sum(result == "ok" for moment, result in fast.results if moment < 60)
        effect.compare("connections of the first minute, in which 600 were wanted", in_a_minute, document=PORTS)
        effect.premise("connections after that, when ports come back", fast.answered - in_a_minute, at_least(1))
    with claim.control("4 a second, so that 60 s of them find room in the range") as control:
        control.series("TIME-WAIT", slow.waiting, unit="sockets")
        control.expect("errors in 75 s", dict(slow.errors), {})
        control.expect("most TIME-WAIT at a time", max(n for _, n in slow.waiting), between(1, PORTS - 1))
    with claim.control("10 a second, but the server closes first and has the TIME-WAIT") as control:
        control.expect("errors in 75 s", dict(spared.errors), {})
        control.expect("TIME-WAIT at the client", max(n for _, n in spared.waiting), 0)


@pytest.mark.full_size("37,642 connections: at least 38 s, and ten times that much work")
@pytest.mark.slow(60)
@pytest.mark.claim("time-wait.exhausts-ports")
def test_exhausts_ports_full_size(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    server, narrow, client, other = lan(4).hosts
    ports = int(client.sysctl[PORT_RANGE].split()[1]) - int(client.sysctl[PORT_RANGE].split()[0]) + 1
    for host in (server, narrow, client):
        host.sysctl[MAX_TW_BUCKETS] = 100_000
    third = ports // 3
    give_ports(narrow, third)
    few = ShortConnections(narrow, [listen(server)], 1000)
    with alone(), claim.effect("a third of the default range, 1000 short connections a second") as effect:
        keep_asking([few], third / 1000 + 1, stop_at_failure=True)
        effect.series("TIME-WAIT", few.waiting, unit="sockets")
        effect.compare("connections before the first failure", few.before_failure, document=third)
        effect.premise("errors", dict(few.errors), {"EADDRNOTAVAIL": 1})
        effect.note("seconds until there was no port", few.first_failure)
    fast = ShortConnections(client, [listen(server)], 1000)
    with alone(), claim.effect("the default range, 1000 short connections a second") as effect:
        # The machine has to keep the rate until half of the ports are taken; what hinders it later are the ports.
        started = keep_asking([fast], ports / 2 / 1000, stop_at_failure=True)
        keep_asking([fast], ports / 1000 + 1, since=started, stop_at_failure=True, within=60)
        effect.series("TIME-WAIT", fast.waiting, unit="sockets")
        in_a_minute = fast.answered
        wanted = "connections of the first minute, in which 60,000 were wanted"
        effect.compare(wanted, in_a_minute, document=at_most(ports))
        effect.note("seconds until there was no port, or the minute was over", fast.results[-1][0])
        # A processor that cannot make 1000 a second once half of the ports are taken (time-wait.harmless-below-20000)
        # does not come to the end of them before the first come back.
        if fast.errors or len(fast.results) > ports:
            effect.compare("connections before the first failure", fast.before_failure, document=ports)
            effect.premise("errors", dict(fast.errors), {"EADDRNOTAVAIL": 1})
        else:
            times = pause_between(fast.results[-1000:]) / pause_between(fast.results[:1000])
            effect.premise("the pause between two requests at the end, times that at the begin", times, at_least(2))
    spared = ShortConnections(other, [listen(server)], 1000, closer="server")
    with alone(), claim.control("the server closes first") as control:
        keep_asking([spared], ports / 1000 + 5)
        control.expect("errors", dict(spared.errors), {})
        control.expect("connections", spared.answered, at_least(ports + 1))


def pause_between(results: Sequence[tuple[float, str]]) -> float:
    """The median time between two requests, in seconds: a machine that is busy now and then does not change it."""
    return statistics.median(later - earlier for (earlier, _), (later, _) in itertools.pairwise(results))


@pytest.mark.slow(20)
@pytest.mark.claim("time-wait.wider-range-helps")
def test_wider_range_helps(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    server, narrow, wide = lan(3).hosts
    give_ports(narrow, 100)
    give_ports(wide, 200)
    few, many = (ShortConnections(client, [listen(server)], RATE) for client in (narrow, wide))
    with claim.control("100 ports, 10 short connections a second") as control:
        keep_asking([few, many], 50, stop_at_failure=True)
        control.expect("connections before the first failure", few.before_failure, 100)
        control.expect("the second of it", few.first_failure, at_least(10))
    with claim.effect("200 ports, 10 short connections a second") as effect:
        effect.premise("errors", dict(many.errors), {"EADDRNOTAVAIL": 1})
        effect.series("TIME-WAIT, 200 ports", many.waiting, unit="sockets")
        effect.series("TIME-WAIT, 100 ports", few.waiting, unit="sockets")
        effect.compare("connections before the first failure", many.before_failure, document=200)
        effect.compare("the second of it", many.first_failure, document=at_least(20))


@pytest.mark.slow(20)
@pytest.mark.claim("time-wait.more-servers-help")
def test_more_servers_help(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    first, second, *clients = lan(5).hosts
    for client in clients:
        give_ports(client, 100)
    one = ShortConnections(clients[0], [listen(first)], RATE)
    two = ShortConnections(clients[1], [listen(first), listen(second)], RATE)
    ports = ShortConnections(clients[2], [listen(first), listen(first)], RATE)
    with claim.control("100 ports, one server, 10 short connections a second") as control:
        keep_asking([one, two, ports], 50, stop_at_failure=True)
        control.expect("connections before the first failure", one.before_failure, 100)
        control.expect("the second of it", one.first_failure, at_least(10))
    with claim.effect("100 ports, two servers in turn") as effect:
        effect.premise("errors", dict(two.errors), {"EADDRNOTAVAIL": 1})
        effect.series("TIME-WAIT, two servers", two.waiting, unit="sockets")
        effect.series("TIME-WAIT, one server", one.waiting, unit="sockets")
        effect.compare("connections before the first failure", two.before_failure, document=200)
        effect.compare("the second of it", two.first_failure, document=at_least(20))
        effect.note("100 ports, two ports of the same server in turn: connections", ports.before_failure)


# Memory and time.


def bytes_of(name: str) -> float | None:
    """Bytes that the objects of a cache take in the whole machine, where this user may know."""
    try:
        return cache(name).objects * cache(name).each
    except (Forbidden, Unsupported):
        return None


def tw_cache(host: Host) -> str:
    """The cache that the TIME-WAIT of the lab's family are in."""
    return "tw_sock_TCPv6" if ":" in host.ip else "tw_sock_TCP"


def bytes_each(make: Callable[[], int], name: str) -> tuple[float, object]:
    """Bytes of kernel memory for each socket that `make` makes (it returns how many), and what that should be.

    Out of the slab where it may be read: objects of the cache `name` times the bytes that one takes. Elsewhere out of
    the total of all slabs, which has the kernel's other work in it. Three measurements in a row must agree: then
    nobody else on the machine made or freed any meanwhile.
    """
    objects = bytes_of(name)
    account: object = between(150, 700) if objects is None else between(0.9 * cache(name).each, 1.15 * cache(name).each)

    def taken() -> float:
        return bytes_of(name) or total("SUnreclaim")

    seen: list[float] = []

    def agreed() -> bool:
        before = taken()
        made = make()
        seen.append((taken() - before) / made)
        return len(seen) >= 3 and max(seen[-3:]) - min(seen[-3:]) <= (80 if objects is None else 25)

    until(agreed, deadline=120, what="a machine quiet enough to measure memory")
    return statistics.median(seen[-3:]), account


def abort(client: Host, listener: Listener, n: int) -> None:
    """Make n connections and end each with RST, which leaves no TIME-WAIT."""
    for _ in range(n):
        with client.socket() as connecting:
            connecting.connect(listener.address)
            connecting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            (accepted,) = listener.accept()
        accepted.close()
        listener.accepted.clear()


def bytes_per_hash_slot(host: Host) -> int | None:
    """Bytes for each slot of the hash table: of the machine's, by the kernel log, or of one that is made for it.

    The document's command asks the log, which may have forgotten, or be root's. A table of 32 MiB shows in the total:
    what else happens on the machine meanwhile is less than half a byte a slot.
    """
    said = shell(host, 'dmesg | grep "TCP established hash table"')
    entries = re.search(r"entries: (\d+) \(order: -?\d+, (\d+) bytes", said)
    if entries:
        return int(entries[2]) // int(entries[1])
    if CHILD_EHASH not in host.sysctl:
        return None
    slots = 1 << 22
    host.sysctl[CHILD_EHASH] = slots
    before = total("VmallocUsed")
    with host:
        child = Namespace()
    taken = total("VmallocUsed") - before
    with child:
        assert int(Path("/proc/sys", EHASH.replace(".", "/")).read_text()) == slots
    child.close()
    return round(taken / slots)


def ehash_entries(host: Host) -> str | None:
    """How many slots the hash table has, where there is a sysctl that says so (6.1)."""
    return host.sysctl[EHASH] if EHASH in host.sysctl else None  # noqa: SIM401 - Sysctls has no get()


@pytest.mark.claim("time-wait.memory")
def test_memory(claim: ClaimRun, pair: Pair) -> None:
    name = tw_cache(pair.server)
    n = 2000
    pair.server.sysctl[MAX_TW_BUCKETS] = 200_000

    def close_in_order() -> int:
        # A listener of their own, so that the client has the same ports for them as before.
        return len(leave_time_wait(pair.client, listen(pair.server), n, closer="server", deadline=60))

    def reset() -> int:
        abort(pair.client, listen(pair.server), n)
        return n

    with alone(), claim.effect("connections closed in order") as effect:
        slot = bytes_per_hash_slot(pair.server)
        effect.note("entries of the hash table", ehash_entries(pair.server))
        if slot is not None:
            # The table has a slot for each entry, used or not: before 3.13 with two lists, one for TIME-WAIT.
            effect.premise("bytes a slot of the hash table", slot, 8 if running() >= "3.13" else 16)
        each, account = bytes_each(close_in_order, name)
        effect.compare("bytes a TIME-WAIT", round(each, 1), document=between(7, 9), kernel=account)
        effect.note("MiB for 60,000 of them", round(each * 60_000 / (1 << 20), 1))
        effect.note("bytes more for each port that is bound, where the client closes first", sizes_of_port())
    with alone(), claim.control("connections ended by RST, which leave no TIME-WAIT") as control:
        # What others make or free meanwhile, at a steady rate, looks like ours: the least of some counts.
        least = min(abs(bytes_each(reset, name)[0]) for _ in range(3))
        control.expect("bytes a connection", round(least, 1), at_most(60))
        control.expect("TIME-WAIT at the client", count(pair.client, "state time-wait"), 0)


def sizes_of_port() -> dict[str, int]:
    """Bytes of what the kernel keeps for each bound port, where it says so to this user."""
    sizes = {}
    for name in ("tcp_bind_bucket", "tcp_bind2_bucket"):
        try:
            sizes[name] = int(Path("/sys/kernel/slab", name, "slab_size").read_text())
        except OSError:
            continue
    return sizes


def connect_seconds(client: Host, listener: Listener, times: int = 41) -> float:
    """The median processor time of a connect() call, in seconds, with the handshake that it sets off."""
    spent = []
    for _ in range(times):
        with client.socket() as connecting:
            before = time.thread_time()
            connecting.connect(listener.address)
            spent.append(time.thread_time() - before)
            (accepted,) = listener.accept(deadline=60)
            accepted.close()
        listener.accepted.clear()
    return statistics.median(spent)


@pytest.mark.slow(95)  # needs the processors, so it begins while others only wait
@pytest.mark.claim("time-wait.harmless-below-20000")
def test_harmless_below_20000(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    server, visitor, client = lan(3).hosts
    for host in (server, client):
        host.sysctl[MAX_TW_BUCKETS] = 200_000

    def at_the_server(n: int) -> None:
        # Not too many a listener: the visitor's ports are free again at once, and a port that it takes a second time
        # takes over the TIME-WAIT.
        for _ in range(0, n, 2500):
            leave_time_wait(visitor, listen(server), 2500, closer="server", deadline=60)

    with alone():
        with claim.control("none") as control:
            service = listen(server)
            connect_seconds(visitor, service)
            base = connect_seconds(visitor, service)
            control.note("microseconds a connect()", round(base * 1e6, 1))
            control.expect("TIME-WAIT at the client that asks later", count(client, "state time-wait"), 0)
        with claim.effect("20,000 at a server, which has closed first; then 25,000") as effect:
            before = bytes_of(tw_cache(server))
            at_the_server(20_000)
            after = bytes_of(tw_cache(server))
            if before is not None and after is not None:
                effect.compare("MiB of memory", round((after - before) / (1 << 20), 1), document=at_most(40))
            effect.compare("connect(), times as long", relative(visitor, service, base), document=at_most(3))
            at_the_server(5_000)
            effect.premise("TIME-WAIT at the server", count(server, "state time-wait"), at_least(25_000))
            effect.premise("25,000: connect(), times as long", relative(visitor, service, base), at_most(3))
        with claim.control("13,000 at a client, all of one destination") as control:
            destination = listen(server)
            leave_time_wait(client, destination, 13_000, deadline=60)
            control.expect("connect(), times as long", relative(client, destination, base), at_most(3))
        with claim.effect("14,200 at a client, all of one destination") as effect:
            leave_time_wait(client, destination, 1_200, deadline=60)
            effect.premise("TIME-WAIT", count(client, "state time-wait"), between(14_200, 14_300))
            # Since 4.6 connect() tries all ports of the range's first parity before any of the other.
            slower = at_least(5) if running() >= "4.6" else at_most(3)
            effect.compare(
                "connect(), times as long", relative(client, destination, base), document=at_most(3), kernel=slower
            )
        with claim.control("the same client, another destination") as control:
            control.expect("connect(), times as long", relative(client, listen(server), base), at_most(3))


def relative(client: Host, listener: Listener, base: float) -> float:
    """How many times as long as `base` a connect() takes."""
    return round(connect_seconds(client, listener) / base, 2)


# Counting.

COUNT = "ss -tan state time-wait | wc -l"
NETSTAT = 'netstat -ant |grep "TIME_WAIT" |wc -l'
NETSTAT_AS_PRINTED = "netstat -ant |grep “TIME_WAIT” |wc –l"
BY_PORT = "ss -o state time-wait '( sport = :443 )'"
HISTOGRAM = """ss -ant | awk '
    NR>1 {++s[$1]} END {for(k in s) print k,s[k]}
'
"""
PER_PEER = """ss -tan 'sport = :443' | awk '{print $(NF)" "$(NF-1)}' | sed 's/:[^ ]*//g' | sort | uniq -c"""


@pytest.mark.claim("time-wait.count")
def test_count(claim: ClaimRun, pair: Pair) -> None:
    listener = listen(pair.server)
    with claim.control("no TIME-WAIT") as control:
        control.expect("inet_diag", count(pair.server, "state time-wait"), 0)
        control.expect("netstat, as it is meant", shell(pair.server, NETSTAT).strip(), "0")
        control.expect("ss", shell(pair.server, COUNT).strip(), "1")
    with claim.effect("7 TIME-WAIT") as effect:
        leave_time_wait(pair.client, listener, 7, closer="server")
        effect.premise("inet_diag", count(pair.server, "state time-wait"), 7)
        # The header is a line, too.
        effect.compare(COUNT, shell(pair.server, COUNT).strip(), document="7", kernel="8")
        effect.compare(NETSTAT, shell(pair.server, NETSTAT).strip(), document="7")
        # The quotation marks become part of what is searched for, and wc takes the dash and l for a file.
        printed = NETSTAT_AS_PRINTED
        effect.compare(printed, shell(pair.server, printed).strip(), document="7", kernel="")
        counted = shell(pair.server, printed.replace("–", "-"))
        effect.compare("the same with its dash mended", counted.strip(), document="7", kernel="0")


def by_port(host: Host) -> list[str]:
    """The rows that the recipe prints, without their header."""
    return shell(host, BY_PORT).splitlines()[1:]


@pytest.mark.claim("time-wait.by-port")
def test_by_port(claim: ClaimRun, pair: Pair) -> None:
    https, other = listen(pair.server, port=443), listen(pair.server, port=8443)
    leave_time_wait(pair.client, other, 3, closer="server")
    with claim.control("3 TIME-WAIT of another port") as control:
        control.expect("inet_diag", count(pair.server, "state time-wait"), 3)
        control.expect("rows", by_port(pair.server), [])
    with claim.effect("5 TIME-WAIT of port 443 beside them") as effect:
        made = leave_time_wait(pair.client, https, 5, closer="server")
        rows = by_port(pair.server)
        peers = sorted(int(row.split()[4].rpartition(":")[2]) for row in rows)
        effect.compare("ports of the peers", peers, document=sorted(port for _, (_, port) in made))
        shown = sockets(pair.server, "state time-wait sport = :443")
        effect.premise("inet_diag", sorted(s.remote[1] for s in shown), peers)
        timers = sum("timer:(timewait," in row for row in rows)
        effect.compare("rows with the timer", timers, document=5)


@pytest.mark.claim("time-wait.histogram")
def test_histogram(claim: ClaimRun, pair: Pair) -> None:
    def recipe() -> dict[str, int]:
        rows = (line.split() for line in shell(pair.server, HISTOGRAM).splitlines())
        return {state: int(number) for state, number in rows}

    listener = listen(pair.server)
    with claim.control("a listener alone") as control:
        control.expect("the recipe", recipe(), {"LISTEN": 1})
    with claim.effect("two listeners, and connections in several states") as effect:
        listen(pair.server)
        leave_time_wait(pair.client, listener, 5, closer="server")
        clients = connect(pair.client, listener, 7, wait=True)
        listener.accept(7)
        for leaving in clients.each[:3]:
            leaving.socket.close()
        until(lambda: count(pair.server, "state close-wait") == 3, what="three FINs at the server")
        for closing in listener.accepted[-2:]:
            closing.close()
        until(lambda: count(pair.server, "state fin-wait-2") == 2, what="two FINs acknowledged")
        wanted = {"LISTEN": 2, "TIME-WAIT": 5, "CLOSE-WAIT": 3, "ESTAB": 2, "FIN-WAIT-2": 2}
        effect.premise("inet_diag", dict(Counter(s.state for s in sockets(pair.server))), wanted)
        effect.compare("the recipe", recipe(), document=wanted)


@pytest.mark.claim("time-wait.per-peer")
def test_per_peer(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    server, *clients = lan(4).hosts
    listener = listen(server, port=443)

    def recipe() -> dict[str, int]:
        rows = (line.split(maxsplit=1) for line in shell(server, PER_PEER).splitlines())
        return {peer: int(number) for number, peer in rows}

    v6 = ":" in server.ip

    def extra() -> dict[str, int]:
        """What the recipe takes for peers: the header, whose last words depend on ss and its columns; the listener."""
        header = shell(server, "ss -tan 'sport = :443'").splitlines()[0].split()
        cut = [word.partition(":")[0] for word in header[:-3:-1]]
        return {" ".join(cut): 1, "[ [fd00" if v6 else f"0.0.0.0 {server.ip}": 1}

    with claim.control("a listener alone") as control:
        control.expect("the recipe", recipe(), extra())
    with claim.effect("4, 2 and 1 connections of three clients, one of them open") as effect:
        for client, n in zip(clients, (4, 2), strict=False):
            leave_time_wait(client, listener, n, closer="server")
        connect(clients[2], listener, 1, wait=True)
        until(lambda: count(server, "exclude listening sport = :443") == 7, what="seven connections")
        wanted = {f"{client.ip} {server.ip}": n for client, n in zip(clients, (4, 2, 1), strict=True)}
        found = Counter(f"{s.remote[0]} {s.local[0]}" for s in sockets(server, "exclude listening sport = :443"))
        effect.premise("inet_diag", dict(found), wanted)
        # Of an IPv6 address sed leaves what stands before its first colon.
        account = {"[fd00 [fd00": 7} if v6 else wanted
        effect.compare("the recipe", recipe(), document=wanted, kernel=account | extra())


# The advice.

REQUEST = b"GET / HTTP/1.1\r\nHost: server\r\n\r\n"


def browse(host: Host, nginx: Nginx, n: int) -> int:
    """Make n requests as a browser does, on one connection while the server keeps it; how many it took."""
    used = 0
    connection: socket.socket | None = None
    for _ in range(n):
        if connection is None:
            connection = host.socket()
            connection.settimeout(20)
            connection.connect((nginx.host.ip, nginx.port))
            used += 1
        connection.sendall(REQUEST)
        response = b""
        while not response.endswith(b"\r\n\r\nok"):
            received = connection.recv(4096)
            if not received:
                raise ProgramFailed(f"nginx on {nginx.host.name} closed within a response: {response!r}")
            response += received
        if b"Connection: close" in response:
            assert connection.recv(1) == b""
            connection.close()
            connection = None
    if connection is not None:
        connection.close()
    return used


def left(nginx: Nginx, client: Host) -> dict[str, int]:
    """How many TIME-WAIT of an nginx's connections are where."""
    until(lambda: not count(client, f"exclude time-wait dport = :{nginx.port}"), what="the last connections to end")
    return {
        "server": count(nginx.host, f"state time-wait sport = :{nginx.port} dst {literal(client)}"),
        "client": count(client, f"state time-wait dport = :{nginx.port}"),
    }


def literal(host: Host) -> str:
    """The host's address as a filter has it."""
    return f"[{host.ip}]" if ":" in host.ip else host.ip


@pytest.mark.claim("time-wait.server-keepalive")
def test_server_keepalive(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    with claim.control("nginx with keepalive_timeout 0: 30 requests") as control:
        nginx = Nginx(server, "8001", keepalive=0)
        control.expect("connections that they took", browse(client, nginx, 30), 30)
        control.expect("TIME-WAIT", left(nginx, client), {"server": 30, "client": 0})
    with claim.effect("nginx with keepalive_timeout 65: 30 requests, then the client closes") as effect:
        nginx = Nginx(server, "8002", keepalive=65)
        effect.premise("connections that they took", browse(client, nginx, 30), 1)
        collected = left(nginx, client)
        effect.compare("TIME-WAIT at the server", collected["server"], document=0)
        effect.premise("TIME-WAIT at the client", collected["client"], 1)
    with claim.effect("real load: wrk, 20 connections") as effect:
        load = Wrk(client, nginx.url, connections=20, seconds=1).wait()
        effect.note("requests", load.requests)
        effect.premise("requests for each connection", load.requests / 20, at_least(2))
        effect.compare("TIME-WAIT at the server", left(nginx, client)["server"], document=0)
    with claim.control("keep-alive that ends: after keepalive_requests 5 of 30 requests") as control:
        nginx = Nginx(server, "8003", keepalive_requests=5)
        control.expect("connections that they took", browse(client, nginx, 30), 6)
        control.expect("TIME-WAIT", left(nginx, client), {"server": 6, "client": 0})
    with claim.control("keep-alive that ends: a client idle for longer than keepalive_timeout 1") as control:
        nginx = Nginx(server, "8004", keepalive=1)
        with client.socket() as idle:
            idle.settimeout(20)
            idle.connect((server.ip, nginx.port))
            idle.sendall(REQUEST)
            while idle.recv(4096):
                pass
        control.expect("TIME-WAIT", left(nginx, client), {"server": 1, "client": 0})


@dataclass
class Idle:
    """A connection to an nginx that has had one answer, and over which nothing is said any more."""

    nginx: Nginx
    client: socket.socket

    @classmethod
    def at(cls, server: Host, client: Host, listening: str) -> Idle:
        """Of a client of its own, to an nginx of its own that lets it idle for longer than the kernel does."""
        nginx = Nginx(server, listening, keepalive=24 * 3600)
        connection = client.socket()
        client.lab.on_close(connection.close)
        connection.settimeout(3 * 3600)
        connection.connect((server.ip, nginx.port))
        idle = cls(nginx, connection)
        idle.ask()
        return idle

    def ask(self) -> None:
        """One more request, its answer, and that the server knows of its arrival."""
        self.client.sendall(REQUEST)
        response = b""
        while not response.endswith(b"\r\n\r\nok"):
            response += self.client.recv(4096)
        established = f"state established sport = :{self.nginx.port}"
        until(
            lambda: all(one.send_q == 0 for one in sockets(self.nginx.host, established)),
            what="the acknowledgement of the answer",
        )

    def known(self) -> int:
        """How many connections the server thinks it has."""
        return count(self.nginx.host, f"state established sport = :{self.nginx.port}")


# net/ipv4/tcp_timer.c, tcp_keepalive_timer(); include/net/tcp.h: TCP_KEEPALIVE_TIME, _PROBES, _INTVL, in seconds.
KEEPALIVE_TIME, PROBES, INTERVAL = 7200, 9, 75


@pytest.mark.claim("time-wait.server-keepalive")
@pytest.mark.full_size("a connection is probed after two hours of silence, and nine times, 75 s apart")
@pytest.mark.slow(3 * 3600)
def test_server_keepalive_when_the_client_has_gone(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    gone = Idle.at(server, client, "8005 so_keepalive=on")
    unprobed = Idle.at(server, client, "8006")
    there = Idle.at(server, client, "8007 so_keepalive=on")
    seen = claim.capture(server, port=gone.nginx.port)
    gone.ask()
    with drop(server, dport=gone.nginx.port), drop(server, dport=unprobed.nginx.port):
        with claim.effect("the client has gone, so_keepalive on, all knobs at their defaults") as effect:
            with pytest.raises(ConnectionResetError):
                gone.client.recv(1)
            until(lambda: not gone.known(), what="the end of the connection at the server")
            effect.compare("TIME-WAIT at the server", left(gone.nginx, client)["server"], document=0)
            sent = [one for one in seen.segments() if one.direction == "out"]
            *_, last_answer = (one.time for one in seen.segments() if one.payload == REQUEST)
            probes = [one.time for one in sent if one.time - last_answer > INTERVAL and one.flags == "A"]
            (reset,) = (one.time for one in sent if "R" in one.flags)
            effect.premise("probes", len(probes), PROBES)
            effect.premise("seconds until the first", round(probes[0] - last_answer, 2), about(KEEPALIVE_TIME))
            for earlier, later in itertools.pairwise([*probes, reset]):
                effect.premise(
                    "seconds from one to the next, or to the reset", round(later - earlier, 2), about(INTERVAL)
                )
        with claim.control("no probes: so_keepalive off") as control:
            control.expect("connections of a client that has gone", unprobed.known(), 1)
    with claim.control("the client answers the probes") as control:
        control.expect("connections", there.known(), 1)
        there.ask()  # the last: nginx answers on one connection for an hour (keepalive_time)
    with claim.control("without keep-alive") as control:
        nginx = Nginx(server, "8008", keepalive=0)
        browse(client, nginx, 1)
        control.expect("TIME-WAIT", left(nginx, client), {"server": 1, "client": 0})


def close_eight(client: Host, server: Host, most: int) -> int:
    """Let a client close eight connections where so many TIME-WAIT are allowed: how many stay."""
    client.sysctl[MAX_TW_BUCKETS] = most
    closing = ShortConnections(client, [listen(server)], rate=1000)
    keep_asking([closing], 0.0075)
    assert closing.answered == 8
    until(lambda: not count(client, "exclude time-wait"), what="the last connections to end")
    return count(client, "state time-wait")


def overflows(phase: Phase, client: Host) -> int:
    """How many TIME-WAIT a client was refused in a phase."""
    return phase.delta(client).TcpExt.TCPTimeWaitOverflow


@pytest.mark.claim("time-wait.max-buckets")
def test_max_buckets(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    server, *clients = lan(5).hosts
    with claim.effect("8 connections closed where none, 1 or 3 may stay in TIME-WAIT") as effect:
        there = 0
        for client, most in zip(clients, (0, 1, 3), strict=False):
            # Before 4.11 the limit is one for the whole machine.
            room = most - (there if running() < "4.11" else 0)
            kept = close_eight(client, server, most)
            there += kept
            knob = f"tcp_max_tw_buckets {most}"
            effect.compare(f"{knob}: kept", kept, document=room)
            effect.compare(f"{knob}: TCPTimeWaitOverflow", overflows(effect, client), document=8 - room)
            effect.note(f"{knob}: RSTs, to FINs that met nobody", effect.delta(client).Tcp.OutRsts)
    with claim.control("8 closed where 100 may stay") as control:
        client = clients[3]
        control.expect("kept", close_eight(client, server, 100), 8)
        control.expect("TCPTimeWaitOverflow", overflows(control, client), 0)
        client.sysctl[MAX_TW_BUCKETS] = 3
        control.expect("kept when 3 are allowed afterwards", count(client, "state time-wait"), 8)


LINE = "time wait bucket table overflow"


@pytest.mark.claim("time-wait.max-buckets-log")
def test_max_buckets_log(claim: ClaimRun, pair: Pair) -> None:
    with kernel_log() as log:
        with claim.effect("8 connections closed where 3 may stay in TIME-WAIT") as effect:
            close_eight(pair.client, pair.server, 3)
            effect.premise("TCPTimeWaitOverflow", overflows(effect, pair.client), 5)
            lines = sum(LINE in line for line in log.lines())
            effect.compare(f'"{LINE}" in the kernel log', lines, document=at_least(1), kernel=0)
        with claim.control("does a line of TCP get there? A SYN queue overflows") as control:

            def logged() -> bool:
                # The kernel writes a few such lines in five seconds for the whole machine: another try may be needed.
                crowded = listen(pair.server, 1)
                flood(pair.server, pair.client, crowded, count=50).wait()
                return any(f"SYN flooding on port {crowded.port}" in line or flooded(line) for line in log.lines())

            def flooded(line: str) -> bool:
                return "SYN flooding on port" in line and pair.server.ip in line

            control.expect("Possible SYN flooding", until(logged, deadline=60, what="the line"), True)
            control.expect("TCPTimeWaitOverflow", overflows(control, pair.client), 0)
