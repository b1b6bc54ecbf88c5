"""The documents' command lines, character for character: does what an operator reads there agree with the kernel?

Each is given to a shell inside the host, and its answer is compared with inet_diag, the counters and the sysctl files.
Where a line miscounts, it is shown by how much, and what would count right.
"""

from __future__ import annotations

import re
import signal
import socket
import struct
import sys
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness import traffic, waiting
from harness.errors import Unsupported
from harness.lab import nft
from harness.lab.program import find
from harness.laws import queues
from harness.laws.kernel import running
from harness.laws.queues import Knobs
from harness.laws.ranges import at_least, at_most, between, one_of
from harness.observe import accept_queue, count, counters, half_open, sockets
from harness.traffic import RawPeer, drop, flood, listen
from harness.traffic.closing import leave_time_wait
from harness.traffic.nginx import Nginx
from harness.traffic.wrk import Load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from harness.claims.phases import Phase
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lan, Pair
    from harness.observe import Socket
    from harness.traffic import Listener

# Of a machine that is ten times as slow. A deadline measures nothing.
until = partial(waiting.until, deadline=60.0)
connect = partial(traffic.connect, deadline=60.0)

OWN_TABLE = "net.ipv4.tcp_ehash_entries"
PUSH_ACK = 0x18
NODAD = 0x02  # IFA_F_NODAD: usable at once
PROGRAMS = ("ss", "netstat", "sysctl", "dmesg", "wrk", "hping3", "awk")
HISTOGRAM = """ss -ant | awk '
    NR>1 {++s[$1]} END {for(k in s) print k,s[k]}
'"""
PER_PEER = "ss -tan 'sport = :443' | awk '{print $(NF)\" \"$(NF-1)}' | sed 's/:[^ ]*//g' | sort | uniq -c"  # as printed


def shell(host: Host, line: str) -> str:
    """What a shell in the host prints for a command line; MissingProgram, which the shell would only mutter about."""
    for program in set(re.findall(r"\w+", line)) & set(PROGRAMS):
        find(program)
    return host.run("sh", "-c", line, timeout=120, check=False).stdout


def number(printed: str) -> int:
    """The number that a line begins with; 0 when nothing is printed."""
    found = re.match(r"\s*(\d+)", printed)
    return int(found[1]) if found else 0


def in_language(language: str, line: str) -> str:
    """The line for a user of that language: gettext heeds LANGUAGE in any locale but C, which a lab's programs have."""
    return f"export LC_ALL=C.UTF-8 LANGUAGE={language}; {line}"


def translated(language: str) -> bool:
    """Whether net-tools' texts are installed in a language; images without documentation leave them out."""
    return Path(f"/usr/share/locale/{language}/LC_MESSAGES/net-tools.mo").exists()


def crowd(pair: Pair) -> Listener:
    """A server with sockets in every state that lasts: 3 connections wait, 3 are accepted, and so on."""
    listener = listen(pair.server, 10, port=443)
    RawPeer(pair.server, pair.client).half_open(listener, 2)
    leave_time_wait(pair.client, listener, 4, closer="server", deadline=60)
    clients = [connect(pair.client, listener, wait=True)[0].socket for _ in range(6)]
    _, closes, _ = listener.accept(3, deadline=60)
    clients[0].close()
    closes.close()
    clients[2].send(b"unread")
    wanted = {"LISTEN": 1, "SYN-RECV": 2, "TIME-WAIT": 4, "CLOSE-WAIT": 1, "FIN-WAIT-2": 1, "ESTAB": 4}
    until(lambda: histogram(pair.server) == wanted, what=f"the sockets {wanted}")
    return listener


@contextmanager
def others_come_and_go(pair: Pair) -> Iterator[None]:
    """Meanwhile the server opens and resets one connection after another, some thousand a second."""
    listener, over = listen(pair.client), threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            with pair.server.socket() as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.connect(listener.address)
            for accepted in listener.accept_all():
                accepted.close()
            listener.accepted.clear()

    thread = threading.Thread(target=come_and_go, name="others")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def connect_and_close(host: Host, address: str) -> None:
    """One connection of a host with itself over this IPv6 address, closed by the client first."""
    with host.socket(family=socket.AF_INET6) as listening, host.socket(family=socket.AF_INET6) as client:
        listening.bind((address, 0))
        listening.listen()
        listening.settimeout(60)
        client.settimeout(60)
        # The kernel adds the route to an address of its own a little later (addrconf_dad_work()).
        until(lambda: client.connect_ex(listening.getsockname()[:2]) == 0, what=f"a route to {address}")
        accepted, _ = listening.accept()
        with accepted:
            client.close()
            accepted.settimeout(60)
            accepted.recv(1)


def dual_stack(host: Host, port: int) -> socket.socket:
    """A listener on [::] that takes IPv4 as well."""
    listening = host.socket(family=socket.AF_INET6)
    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("::", port))
    listening.listen(10)
    return listening


def histogram(host: Host) -> Counter[str]:
    """How many sockets are in which state, by inet_diag."""
    return Counter(each.state for each in sockets(host))


class Row(NamedTuple):
    """What ss prints of a socket."""

    state: str
    recv_q: int
    send_q: int
    local: str
    remote: str


def rows(printed: str) -> list[Row]:
    """The rows of `ss -tan` and its like, without the header, sorted."""
    words = [line.split() for line in printed.splitlines()[1:]]
    return sorted(Row(state, int(recv), int(send), *ends[:2]) for state, recv, send, *ends in words)


def expected_rows(found: Iterable[Socket]) -> list[Row]:
    """The rows that ss should print for what inet_diag says."""

    def spelled(family: int, endpoint: tuple[str, int]) -> str:
        address, port = endpoint
        return f"{f'[{address}]' if family == socket.AF_INET6 else address}:{port or '*'}"

    return sorted(
        Row(one.state, one.recv_q, one.send_q, spelled(one.family, one.local), spelled(one.family, one.remote))
        for one in found
    )


# ss


@pytest.mark.claim("commands.ss-tan")
def test_ss_tan(claim: ClaimRun, pair: Pair) -> None:
    with claim.effect("a server with sockets in six states") as effect:
        crowd(pair)
        effect.compare("rows", rows(shell(pair.server, "ss -tan")), document=expected_rows(sockets(pair.server)))
        effect.compare("how many", len(rows(shell(pair.server, "ss -tan"))), document=13)
    with claim.effect("1000 sockets more") as effect:
        leave_time_wait(pair.server, listen(pair.client, 200), 1000, deadline=60)
        effect.compare("how many", len(rows(shell(pair.server, "ss -tan"))), document=count(pair.server, ""))
        effect.premise("by inet_diag", count(pair.server, ""), 1013)
    with claim.control("without -a: no listener, no half-open request and no TIME-WAIT") as control:
        left_out = ("LISTEN", "SYN-RECV", "TIME-WAIT")
        shown = [one for one in sockets(pair.server) if one.state not in left_out]
        control.expect("rows", rows(shell(pair.server, "ss -tn")), expected_rows(shown))
        control.expect("how many", len(shown), 6)


@pytest.mark.claim("commands.ss-lnt")
def test_ss_lnt(claim: ClaimRun, pair: Pair) -> None:
    pair.server.sysctl["net.core.somaxconn"] = 4096
    listeners = [listen(pair.server, backlog, port=port) for port, backlog in ((3000, 10), (8080, 128), (5921, 4000))]
    for n in (0, 7, 11):
        with claim.effect(f"three listeners, {n} connections wait at the one with backlog 10") as effect:
            connect(pair.client, listeners[0], n - accept_queue(pair.server, 3000).waiting, wait=True)
            until(lambda n=n: accept_queue(pair.server, 3000).waiting == n, what=f"{n} waiting")  # type: ignore[misc]
            printed = rows(shell(pair.server, "ss -lnt"))
            effect.compare("rows", printed, document=expected_rows(sockets(pair.server, "state listening")))
            (row,) = rows("header\n" + shell(pair.server, "ss -lnt | grep 3000"))
            effect.compare("(Recv-Q, Send-Q) of ss -lnt | grep 3000", (row.recv_q, row.send_q), document=(n, 10))
    with claim.control("the other sockets, and grep's other matches") as control:
        shown = rows(shell(pair.server, "ss -lnt"))
        control.expect("rows that are no listener", [row for row in shown if row.state != "LISTEN"], [])
        listen(pair.server, 3000, port=9999)
        control.expect(
            "lines of grep 3000 beside a backlog of 3000", shell(pair.server, "ss -lnt | grep 3000").count("\n"), 2
        )
        listeners[0].close()
        control.expect("listeners when one has closed", len(rows(shell(pair.server, "ss -lnt"))), 3)


@pytest.mark.claim("commands.ss-nt")
def test_ss_nt(claim: ClaimRun, pair: Pair) -> None:
    listener = crowd(pair)
    with claim.effect("a server with sockets in six states") as effect:
        shown = [s for s in sockets(pair.server) if s.state not in ("LISTEN", "SYN-RECV", "TIME-WAIT")]
        printed = rows(shell(pair.server, "ss -nt"))
        effect.compare("rows", printed, document=expected_rows(shown))
        effect.compare("connections", len(printed), document=6)
        unread = [row.recv_q for row in printed if row.recv_q > 1]
        effect.compare("Recv-Q of the one that was sent six bytes", unread, document=[6])
        (ended,) = [row.recv_q for row in printed if row.state == "CLOSE-WAIT"]
        effect.premise("Recv-Q of one that was sent nothing but the end: the FIN counts as a byte", ended, 1)
    with claim.control("the six bytes are read, and half of the connections are gone") as control:
        listener.accepted[-1].recv(100)
        for one in listener.accept(3, deadline=60):
            one.close()
        until(lambda: count(pair.server, "state established") == 1, what="one established connection")
        printed = rows(shell(pair.server, "ss -nt"))
        control.expect("Recv-Q", [row.recv_q for row in printed if row.state == "ESTAB"], [0])


@pytest.mark.claim("commands.ss-time-wait")
def test_ss_time_wait(claim: ClaimRun, pair: Pair) -> None:
    listener, made = listen(pair.client, 200), 0
    for n in (1, 20, 1000):
        with claim.effect(f"{n} sockets in TIME-WAIT") as effect:
            leave_time_wait(pair.server, listener, n - made, deadline=60)
            made = n
            effect.premise("by inet_diag", count(pair.server, "state time-wait"), n)
            printed = shell(pair.server, "ss -tan state time-wait").splitlines()
            effect.compare("rows of ss -tan state time-wait", len(printed) - 1, document=n)
            counted = number(shell(pair.server, "ss -tan state time-wait | wc -l"))
            effect.compare("ss -tan state time-wait | wc -l", counted, document=n, kernel=n + 1)
    with claim.effect("the same 1000 while other connections come and go") as effect, others_come_and_go(pair):
        of_port = f"ss -tan state time-wait 'dport = :{listener.port}' | wc -l"
        looks = [number(shell(pair.server, of_port)) - 1 for _ in range(3)]
        effect.note("of their port, three times", looks)
        effect.premise("at most one in a hundred missed or seen twice", max(abs(n - 1000) for n in looks), at_most(10))
    with claim.effect("none: the other side's end") as effect:
        counted = number(shell(pair.client, "ss -tan state time-wait | wc -l"))
        effect.compare("ss -tan state time-wait | wc -l", counted, document=0, kernel=1)
    with claim.control("1000 and none, the header left out") as control:
        counts = [number(shell(host, "ss -Htan state time-wait | wc -l")) for host in (pair.server, pair.client)]
        control.expect("ss -Htan state time-wait | wc -l", counts, [1000, 0])


def shown_by_ss_without_t(*, filtered: bool) -> int:
    """How often ss shows a TCP socket that is not asked for TCP alone.

    It then asks for MPTCP's as well (9c3be2c0eee0, iproute2 5.9), whose number is 262. A kernel before 3f935c75eb52
    "inet_diag: support for wider protocol numbers", 5.9, sees the lower eight bits, 6, which is TCP. Before
    0df6d32842b9 "inet_diag: Move the INET_DIAG_REQ_BYTECODE nlattr to cb->data", 5.7, inet_diag_bc_audit() refuses
    the attribute with that number where there is no filter beside it.
    """
    return 2 if running() < "5.9" and (filtered or running() >= "5.7") else 1


@pytest.mark.claim("commands.ss-timer-by-port")
def test_ss_timer_by_port(claim: ClaimRun, pair: Pair) -> None:
    line, https = "ss -o state time-wait '( sport = :443 )'", "state time-wait sport = :443"
    find("ss")

    def timers() -> list[int]:
        """The seconds that ss prints beside each socket: `timer:(timewait,59sec,0)`, at a minute `1min`."""
        found = re.findall(r"timer:\(timewait,(?:(\d+)min)?(?:([\d.]+)(sec|ms))?,0\)", shell(pair.server, line))
        return sorted(60 * int(minutes or 0) + int(float(n or 0)) * (unit == "sec") for minutes, n, unit in found)

    def left() -> list[float]:
        return sorted(one.timer.expires for one in sockets(pair.server, https) if one.timer)

    with claim.effect("four sockets in TIME-WAIT at port 443, three at 8443") as effect:
        leave_time_wait(pair.client, listen(pair.server, port=443), 4, closer="server", deadline=60)
        leave_time_wait(pair.client, listen(pair.server, port=8443), 3, closer="server", deadline=60)
        effect.premise("of all ports, by inet_diag", count(pair.server, "state time-wait"), 7)
        before, printed, after = left(), timers(), left()
        effect.compare("rows", len(printed), document=4, kernel=4 * shown_by_ss_without_t(filtered=True))
        effect.premise("rows by inet_diag", len(before), 4)
        # ss prints whole seconds, cut off; before and after it asked, the kernel said these.
        for seconds in printed:
            effect.compare("seconds left", seconds, document=between(int(min(after)), max(before)))
    with claim.control("-t, which leaves every protocol but TCP out") as control:
        control.expect("rows", shell(pair.server, line.replace("-o", "-to")).count("timer:"), 4)
    with claim.control("the other side's end, where 443 is the destination and nothing is in TIME-WAIT") as control:
        control.expect("rows", shell(pair.client, line).count("timer:"), 0)
    with claim.control("a port without connections") as control:
        control.expect("rows", shell(pair.server, line.replace("443", "444")).count("timer:"), 0)


@pytest.mark.claim("commands.awk-histogram")
def test_awk_histogram(claim: ClaimRun, pair: Pair) -> None:
    def counted(line: str) -> dict[str, int]:
        return {state: int(n) for state, n in map(str.split, shell(pair.server, line).splitlines())}

    with claim.effect("a server with sockets in six states") as effect:
        crowd(pair)
        effect.compare("states counted", counted(HISTOGRAM), document=dict(histogram(pair.server)))
        wanted = {"LISTEN": 1, "SYN-RECV": 2, "TIME-WAIT": 4, "CLOSE-WAIT": 1, "FIN-WAIT-2": 1, "ESTAB": 4}
        effect.compare("states made", counted(HISTOGRAM), document=wanted)
    with claim.effect("1000 in TIME-WAIT more") as effect:
        leave_time_wait(pair.server, listen(pair.client, 200), 1000, deadline=60)
        effect.compare("states counted", counted(HISTOGRAM), document=dict(histogram(pair.server)))
        effect.compare("in TIME-WAIT", counted(HISTOGRAM)["TIME-WAIT"], document=1004)
    with claim.control("without NR>1 the header is a state of its own") as control:
        control.expect("states", counted(HISTOGRAM.replace("NR>1 ", ""))["State"], 1)
    with claim.control("the other side's end, where nothing is in TIME-WAIT") as control:
        control.expect("states counted", "TIME-WAIT" in shell(pair.client, HISTOGRAM), wanted=False)


@pytest.mark.claim("commands.awk-per-peer")
def test_awk_per_peer(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    server, one, other = lan(3).hosts
    v6 = server.family == socket.AF_INET6

    def peers(line: str = PER_PEER) -> dict[str, int]:
        """What the recipe prints, peer by peer: `2 10.1.0.1 10.1.0.2` is 2 of the first."""
        found = [printed.split() for printed in shell(server, line).splitlines()]
        return {words[1]: int(words[0]) for words in found}

    with claim.effect("two connections of one peer and three of another") as effect:
        listener = listen(server, port=443)
        connect(one, listener, 2, wait=True)
        connect(other, listener, 3, wait=True)
        until(lambda: accept_queue(server, 443).waiting == 5, what="five connections")
        printed = peers()
        wanted = {one.ip: 2, other.ip: 3}
        # The header and the listener are peers to it; of an IPv6 address it leaves what stands before the first colon.
        merged = {"[": 1, "[fd00": 5} if v6 else {**wanted, "0.0.0.0": 1}
        header = set(printed) - set(merged)
        effect.compare("peers", {p: n for p, n in printed.items() if p not in header}, document=wanted, kernel=merged)
        effect.compare("lines printed", len(printed), document=2, kernel=len(merged) + 1)
        effect.premise("the line that is the header", header, one_of({"Process"}, {"Address"}, {"Peer"}))
    listener.close()
    with claim.effect("the same peers over IPv4 at a server that listens on [::], as most do") as effect:
        wanted = {host.address(socket.AF_INET): n for host, n in ((one, 2), (other, 3))}
        with dual_stack(server, 443), ExitStack() as clients:
            for peer, n in ((one, 2), (other, 3)):
                for _ in range(n):
                    client = clients.enter_context(peer.socket(family=socket.AF_INET))
                    client.settimeout(60)
                    client.connect((server.address(socket.AF_INET), 443))
            until(lambda: accept_queue(server, 443).waiting == 5, what="five connections")
            # Such a peer is [::ffff:10.1.0.1]:40000, and nothing stands before the first colon.
            counted = {peer: n for peer, n in peers().items() if peer not in header}
            effect.compare("peers", counted, document=wanted, kernel={"*": 1, "[": 5})
    with claim.control("the header and the listener left out, and only the port cut off") as control:
        listener = listen(server, port=443)
        connect(one, listener, 2, wait=True)
        connect(other, listener, 3, wait=True)
        until(lambda: accept_queue(server, 443).waiting == 5, what="five connections")
        mended = "ss -Htn 'sport = :443' | awk '{print $5}' | sed 's/:[0-9]*$//' | tr -d '[]' | sort | uniq -c"
        control.expect("peers", peers(mended), {one.ip: 2, other.ip: 3})


@pytest.mark.ipv4_only("-4 lists IPv4 alone, which is shown with IPv6 beside it")
@pytest.mark.claim("commands.ss-info")
def test_ss_info(claim: ClaimRun, pair: Pair) -> None:
    listener = listen(pair.server, 10)
    clients = connect(pair.client, listener, 2, wait=True)
    listener.accept(2)

    def printed() -> dict[int, dict[str, float]]:
        """The numbers of `ss -4 --info` by the socket's local port: "rto:204 rtt:0.1/0.05 cwnd:10"."""
        lines = shell(pair.client, "ss -4 --info").splitlines()[1:]
        # The numbers stand in a line of their own below the socket's, which begins with a tab.
        return {
            int(above.split()[4].rpartition(":")[2]): {
                name: float(value) for name, value in re.findall(r"\b(rto|rtt|mss|cwnd|backoff):([\d.]+)", below)
            }
            for above, below in pairwise(lines)
            if below.startswith("\t") and "rto:" in below
        }

    def told() -> dict[int, dict[str, float]]:
        """The same from inet_diag."""
        found = {one.local[1]: one.info for one in sockets(pair.client, family=socket.AF_INET)}
        return {
            port: {"rto": info.rto * 1000, "rtt": info.rtt * 1000, "mss": info.snd_mss, "cwnd": info.snd_cwnd}
            | ({"backoff": info.backoff} if info.backoff else {})
            for port, info in found.items()
            if info
        }

    def settled() -> tuple[dict[int, dict[str, float]], dict[int, dict[str, float]]]:
        """Both, from a moment in which nothing changed."""
        while True:
            before, seen, after = told(), printed(), told()
            if before == after:
                return seen, before

    with claim.effect("two connections, one of which has sent what nobody acknowledges") as effect:
        lost = drop(pair.client, sport=listener.port)
        clients[0].socket.send(b"request")
        until(lambda: effect.delta(pair.client).Tcp.RetransSegs >= 3, what="three retransmissions")
        shown = re.findall(r"^m?tcp +ESTAB ", shell(pair.client, "ss -4 --info"), re.MULTILINE)
        effect.compare("rows", len(shown), document=2, kernel=2 * shown_by_ss_without_t(filtered=False))
        seen, by_kernel = settled()
        effect.compare("connections", sorted(seen), document=sorted(client.port for client in clients))
        for name, client in zip(("the one that retransmits", "the idle one"), clients, strict=True):
            for what, value in by_kernel[client.port].items():
                near = between(value * 0.999 - 0.001, value * 1.001 + 0.001)  # ss prints six digits
                effect.compare(f"{what} of {name}", seen[client.port][what], document=near)
        rto = seen[clients[1].port]["rto"]
        effect.compare("rto on a LAN, in ms (the document's example: 216)", rto, document=between(200, 300))
        effect.premise("rto that has doubled", seen[clients[0].port]["rto"] > rto, True)
        lost.lift()
    with claim.control("an IPv6 connection, which -4 leaves out and -6 lists") as control:
        with dual_stack(pair.server, 8443), pair.client.socket(family=socket.AF_INET6) as beside:
            beside.settimeout(60)
            beside.connect((pair.server.address(socket.AF_INET6), 8443))
            control.expect("lines with its port", shell(pair.client, "ss -4 --info").count(":8443"), 0)
            control.expect("lines with its port, -6", shell(pair.client, "ss -6 --info").count(":8443"), 1)


# netstat


def rises(claim: ClaimRun, host: Host, line: str, counter: str, disturb: Callable[[Phase, int], object]) -> None:
    """A line of `netstat -s` follows a counter, prints nothing as long as that is 0, and speaks other languages."""
    with claim.control("nothing has happened yet") as control:
        control.expect(counter, counters(host)[counter], 0)
        control.expect("lines printed", shell(host, line), "")
    total = 0
    for n in (1, 7, 200):
        with claim.effect(f"{n} more") as effect:
            disturb(effect, n)
            total += n
            effect.compare(line, number(shell(host, line)), document=total)
            effect.compare("by the kernel", counters(host)[counter], document=total)
    with claim.control("the same in Chinese, which net-tools does not speak, and in three that it does") as control:
        control.expect(line, number(shell(host, in_language("zh_CN", line))), total)
        # Where a translation has the words, grep does not find them: net-tools 1.60 had some; those of 2.10 are not in
        # use, because the English beside them has changed (f1f89328cccf "netstat -s reports negative octet counts").
        printed = {language: number(shell(host, in_language(language, line))) for language in ("cs", "de", "ja")}
        control.expect("in Czech, German and Japanese: found, or not", set(printed.values()) - {0, total}, set())
        control.note("printed", {language: (translated(language), n) for language, n in printed.items()})


@pytest.mark.claim("commands.netstat-overflowed")
def test_netstat_overflowed(claim: ClaimRun, pair: Pair) -> None:
    listener = listen(pair.server, 2)
    late = RawPeer(pair.server, pair.client).connection(listener)
    late.syn(deadline=60)

    def refuse(phase: Phase, n: int) -> None:
        """A third ACK that comes when the accept queue is full, again and again."""
        if accept_queue(pair.server, listener.port).waiting < 3:
            connect(pair.client, listener, 3, wait=True)
            until(lambda: accept_queue(pair.server, listener.port).waiting == 3, what="a full accept queue")
        for _ in range(n):
            late.send("A")
        until(lambda: phase.delta(pair.server).TcpExt.ListenOverflows >= n, what=f"{n} refused")

    rises(claim, pair.server, "netstat -s | grep overflowed", "TcpExt.ListenOverflows", refuse)


@pytest.mark.claim("commands.netstat-syns-to-listen")
def test_netstat_syns_to_listen(claim: ClaimRun, pair: Pair) -> None:
    pair.server.sysctl["net.ipv4.tcp_syncookies"] = 0
    fit = queues.half_open(running(), Knobs(4, tcp_syncookies=0))

    def refuse(phase: Phase, n: int) -> None:
        # All at once: a request that is 7 s old makes room in a full queue.
        flood(pair.server, pair.client, listen(pair.server, 4), count=fit + n).wait()
        until(lambda: phase.delta(pair.server).TcpExt.ListenDrops >= n, what=f"{n} dropped")

    rises(claim, pair.server, 'netstat -s | grep "SYNs to LISTEN"', "TcpExt.ListenDrops", refuse)
    with claim.effect("the line of the other document, in single quotes") as effect:
        printed = number(shell(pair.server, "netstat -s | grep 'SYNs to LISTEN'"))
        effect.compare("netstat -s | grep 'SYNs to LISTEN'", printed, document=208)


@pytest.mark.claim("commands.netstat-syn-recv")
def test_netstat_syn_recv(claim: ClaimRun, pair: Pair) -> None:
    line = "netstat -natp | grep SYN_RECV | wc -l"
    # netstat -p looks at every open file of every process, which may take it a minute. Less than half full, a queue
    # keeps its requests until the last SYN-ACK (inet_connection_sock.c, reqsk_timer_handler()): here, for ten minutes.
    pair.server.sysctl["net.core.somaxconn"] = 1024
    pair.server.sysctl["net.ipv4.tcp_synack_retries"] = 10
    first, second = listen(pair.server, 1024), listen(pair.server, 1024)
    peer = RawPeer(pair.server, pair.client)
    with claim.control("no request is half-open") as control:
        control.expect(line, number(shell(pair.server, line)), 0)
    for n in (1, 30, 256):
        with claim.effect(f"{n} requests half-open at one listener") as effect:
            peer.half_open(first, n - count(pair.server, "state syn-recv"))
            until(lambda n=n: count(pair.server, "state syn-recv") == n, what=f"{n} half-open")  # type: ignore[misc]
            effect.compare(line, number(shell(pair.server, line)), document=n)
    with claim.control("what else it counts: the requests of another listener, and a program of that name") as control:
        peer.half_open(second, 10)
        until(lambda: count(pair.server, "state syn-recv") == 266, what="10 half-open at the other listener")
        control.expect(f"{line}, two listeners", number(shell(pair.server, line)), 266)
        control.expect("half-open at the first, by inet_diag", half_open(pair.server, first.port), 256)
        named = Path(pair.server.lab.directory, "SYN_RECV")
        named.symlink_to(Path(sys.executable).resolve())
        pair.server.start(named, "-c", LISTENING, ready=lambda: count(pair.server, "state listening") == 3)
        control.expect(f"{line}, a program of that name listens", number(shell(pair.server, line)), 267)
    there = translated("pt_BR")
    with claim.control(
        f"in Brazilian Portuguese, translation {'' if there else 'not '}installed: SYN_RECEBIDO"
    ) as control:
        # What is left is the program of that name.
        control.expect(line, number(shell(pair.server, in_language("pt_BR", line))), 1 if there else 267)


# A program that listens, for those who have to have its name.
LISTENING = "import signal, socket; one = socket.socket(); one.listen(); signal.pause()"


@pytest.mark.claim("commands.netstat-time-wait")
def test_netstat_time_wait(claim: ClaimRun, pair: Pair) -> None:
    printed_so = "netstat -ant |grep “TIME_WAIT” |wc –l"
    mended = "netstat -ant | grep TIME_WAIT | wc -l"
    listener, made = listen(pair.client, 200), 0
    for n in (1, 20, 1000):
        with claim.effect(f"{n} sockets in TIME-WAIT") as effect:
            leave_time_wait(pair.server, listener, n - made, deadline=60)
            made = n
            effect.premise("by inet_diag", count(pair.server, "state time-wait"), n)
            effect.compare(mended, number(shell(pair.server, mended)), document=n)
            # A shell does not know these quotes, and wc takes the dash for the name of a file.
            effect.compare(
                "with the quotes and the dash that are printed",
                shell(pair.server, printed_so),
                document=f"{n}\n",
                kernel="",
            )
    with claim.effect("the same 1000 while other connections come and go") as effect, others_come_and_go(pair):
        of_port = f"netstat -ant | grep ':{listener.port} ' | grep TIME_WAIT | wc -l"
        looks = [number(shell(pair.server, of_port)) for _ in range(3)]
        effect.note("of their port, three times", looks)
        # The kernel gives the table out a page at a time, and finds its place again by counting (tcp_seek_last_pos()).
        effect.premise("at most one in a hundred missed or seen twice", max(abs(n - 1000) for n in looks), at_most(10))
    with claim.control("none: the other side's end") as control:
        control.expect(mended, number(shell(pair.client, mended)), 0)
    with claim.control("an IPv6 address of 39 characters: cut off without -W, and counted all the same") as control:
        address = "fd00:1111:2222:3333:4444:5555:6666:7777"
        pair.server.netlink().addr("add", index=1, address=address, prefixlen=128, family=socket.AF_INET6, flags=NODAD)
        pair.server.close_netlink()
        connect_and_close(pair.server, address)
        until(lambda: count(pair.server, "state time-wait") == 1001, what="its TIME-WAIT")
        control.expect(mended, number(shell(pair.server, mended)), 1001)
        control.expect("the address in netstat -ant", address in shell(pair.server, "netstat -ant"), wanted=False)
        control.expect("the address in netstat -antW", address in shell(pair.server, "netstat -antW"), wanted=True)
    with claim.control("in four languages, all of which leave TIME_WAIT as it is") as control:
        for language in ("zh_CN", "de", "cs", "pt_BR"):
            control.expect(language, number(shell(pair.server, in_language(language, mended))), 1001)


# The kernel's log and its sysctls


@pytest.mark.claim("commands.dmesg-hash-table")
def test_dmesg_hash_table(claim: ClaimRun, pair: Pair) -> None:
    server, line = pair.server, 'dmesg | grep "TCP established hash table"'

    def printed() -> list[int]:
        """The entries that the log has."""
        return [int(entries) for entries in re.findall(r"entries: (\d+) \(order: \d+, \d+ bytes", shell(server, line))]

    def entries(host: Host) -> int:
        """The size of the table as the kernel tells it: since 6.1 by a sysctl of its own, negative if it is shared;
        before, by tcp_max_tw_buckets, which is half of it in a fresh namespace (net/ipv4/tcp_ipv4.c, tcp_sk_init())."""
        if OWN_TABLE in host.sysctl:
            return abs(int(host.sysctl[OWN_TABLE]))
        return 2 * int(host.sysctl["net.ipv4.tcp_max_tw_buckets"])

    size = entries(server)
    log = server.run("dmesg", check=False)
    # The ring loses its first lines first, and this one is not the first.
    whole = "Linux version" in log.stdout or "TCP established hash table" in log.stdout
    if running() < "6.1" and not whole:
        why = "not for this user to read" if log.returncode else "overwritten"
        raise Unsupported(f"what the kernel logged at boot is {why}: run it as root, soon after boot")
    # The log is a ring: after days the lines of boot are overwritten. And kernel.dmesg_restrict keeps it for root.
    told = [size] if whole else []
    with claim.effect("a host that shares the machine's table") as effect:
        effect.note("the log reaches back to boot", whole)
        effect.note("lines", [shell(server, line), shell(server, 'dmesg | grep "TCP bind hash table"')])
        effect.compare("entries that the log has", printed(), document=[size], kernel=told)
    with claim.control("the kernel's own word for it") as control:
        control.expect("tcp_max_tw_buckets, half of it", int(server.sysctl["net.ipv4.tcp_max_tw_buckets"]), size // 2)
    if running() >= "6.1":
        with claim.effect("a host with a table of its own, tcp_child_ehash_entries 1024 where it was made") as effect:
            server.sysctl["net.ipv4.tcp_child_ehash_entries"] = 1024
            with server:
                child = server.lab.host("child")
            effect.premise("entries", int(child.sysctl[OWN_TABLE]), 1024)
            effect.compare("entries that the log has", printed(), document=[1024], kernel=told)


@pytest.mark.claim("commands.cat-proc-sys")
def test_cat_proc_sys(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server

    def cat(host: Host, path: str) -> list[int]:
        """What cat prints; where old kernels have a knob in the initial namespace alone, what it would print there."""
        return [int(word) for word in (shell(host, f"cat /proc/sys/{path}") or host.sysctl[path]).split()]

    with claim.effect("a port range of ten") as effect:
        client.sysctl["net.ipv4.ip_local_port_range"] = "60000 60009"
        first, last = cat(client, "net/ipv4/ip_local_port_range")
        ports = sorted(attempt.port for attempt in connect(client, listen(server), 10, wait=True))
        effect.compare("the ports that ten connections have", ports, document=list(range(first, last + 1)))
        effect.compare("the range", (first, last), document=(60000, 60009))
    with claim.effect("cookies off and tcp_max_syn_backlog 16") as effect:
        server.sysctl["net.ipv4.tcp_syncookies"] = 0
        server.sysctl["net.ipv4.tcp_max_syn_backlog"] = 16
        effect.compare("tcp_syncookies", cat(server, "net/ipv4/tcp_syncookies"), document=[0])
        (said,) = cat(server, "net/ipv4/tcp_max_syn_backlog")
        knobs = Knobs(100, tcp_max_syn_backlog=said, tcp_syncookies=0)
        RawPeer(server, client).half_open(listen(server, 100), 40)
        until(lambda: effect.delta(server).TcpExt.ListenDrops + count(server, "state syn-recv") == 40, what="40 SYNs")
        wanted = queues.half_open(running(), knobs)
        effect.compare("half-open, of 40", count(server, "state syn-recv"), document=wanted)
    with claim.effect("the line that sets one: echo 1 > /proc/sys/net/ipv4/tcp_syncookies") as effect:
        shell(server, "echo 1 > /proc/sys/net/ipv4/tcp_syncookies")
        effect.compare("tcp_syncookies", cat(server, "net/ipv4/tcp_syncookies"), document=[1])
        RawPeer(server, client).half_open(listen(server, 2), 10)
        until(lambda: effect.delta(server).TcpExt.SyncookiesSent >= 7, what="cookies")
    with claim.effect(
        "the machine's: fs.file-max beside the third number of fs/file-nr; tcp_abort_on_overflow"
    ) as effect:
        effect.compare("fs.file-max", cat(server, "fs/file-max"), document=cat(server, "fs/file-nr")[2:])
        effect.compare("tcp_abort_on_overflow", cat(server, "net/ipv4/tcp_abort_on_overflow"), document=[0])
        effect.note("fs.nr_open, which limits.nr-open holds against setrlimit()", cat(server, "fs/nr_open"))
    with claim.control("the other host, where nobody has set anything") as control:
        control.expect("where ports begin", cat(server, "net/ipv4/ip_local_port_range")[0], 32768)
        control.expect("tcp_syncookies", cat(client, "net/ipv4/tcp_syncookies"), [1])


@pytest.mark.claim("commands.sysctl")
def test_sysctl(claim: ClaimRun, pair: Pair) -> None:
    retries, fin_timeout = "net.ipv4.tcp_syn_retries", "net.ipv4.tcp_fin_timeout"

    def by_a_socket(host: Host) -> dict[str, int]:
        """What a new socket takes from the two knobs (net/ipv4/tcp.c, do_tcp_getsockopt())."""
        with host.socket() as one:
            options = {retries: socket.TCP_SYNCNT, fin_timeout: socket.TCP_LINGER2}
            return {knob: one.getsockopt(socket.IPPROTO_TCP, option) for knob, option in options.items()}

    for values in ((1, 30), (5, 77)):
        with claim.effect(f"tcp_syn_retries {values[0]}, tcp_fin_timeout {values[1]}") as effect:
            for knob, value in zip((retries, fin_timeout), values, strict=True):
                pair.client.sysctl[knob] = value
                effect.premise(f"{knob}, by a socket", by_a_socket(pair.client)[knob], value)
                effect.compare(f"sysctl {knob}", shell(pair.client, f"sysctl {knob}"), document=f"{knob} = {value}\n")
    with claim.control("the other host, where nobody has set anything") as control:
        for knob, value in by_a_socket(pair.server).items():
            control.expect(f"sysctl {knob}", shell(pair.server, f"sysctl {knob}"), f"{knob} = {value}\n")
            control.expect(f"{knob} beside what was set", value in (30, 77, 1, 5), False)


# The programs that make load


@pytest.mark.claim("commands.wrk")
def test_wrk(claim: ClaimRun, pair: Pair) -> None:
    pair.server.sysctl["net.core.somaxconn"] = 5000
    nginx = Nginx(pair.server, "3000 backlog=5000", location='access_log requests.log; return 200 "ok";')
    log = nginx.directory / "requests.log"
    requests = arriving(pair.server, nginx.port)

    def established() -> int:
        return count(pair.client, f"state established dport = :{nginx.port}")

    for connections in (2, 100):
        with claim.effect(f"the document's line with {connections} connections instead of 5000, interrupted") as effect:
            log.write_text("")
            before = requests.counts()[0]
            wrk = pair.client.start("wrk", "-t", 2, "-c", connections, "-d", "60s", nginx.url)
            until(lambda n=connections: established() == n, what=f"{connections} connections")  # type: ignore[misc]
            threads = len(list(Path(f"/proc/{wrk.pid}/task").iterdir()))
            until(lambda n=connections: log.read_text().count("\n") >= 10 * n, what="ten requests on each")  # type: ignore[misc]
            wrk.signal(signal.SIGINT)
            report = wrk.wait(60).stdout
            load = Load.parse(report)
            # nginx logs a request when it has answered it.
            until(lambda n=load.requests: log.read_text().count("\n") >= n, what="nginx's log")  # type: ignore[misc]
            answered = log.read_text().count("\n")
            arrived = requests.counts()[0] - before
            effect.compare("connections", f"2 threads and {connections} connections" in report, document=True)
            effect.compare(
                "threads (the document's comment: 6), one of which waits for the others", threads, document=3
            )
            # A request on each connection may be on its way when the time is over.
            missed = answered - load.requests
            effect.compare("requests that nginx counts beyond wrk's", missed, document=between(0, connections))
            again = effect.delta(pair.client).Tcp.RetransSegs
            effect.compare(
                "requests by the kernel beyond nginx's", arrived - answered, document=between(0, again + connections)
            )
            effect.compare("requests", load.requests, document=at_least(connections))
            opened = effect.delta(pair.client).Tcp.ActiveOpens
            effect.premise("connections opened: one more, to look whether somebody answers", opened, connections + 1)
            effect.note("requests by wrk, nginx, the kernel", [load.requests, answered, arrived])
    with claim.control("nginx answers nobody") as control:
        nginx.stall()
        load = Load.parse(shell(pair.client, f"wrk -t 2 -c 100 -d 1s {nginx.url}"))
        control.expect("requests", load.requests, 0)
        nginx.resume()


def arriving(host: Host, port: int, flags: int = PUSH_ACK) -> nft.Table:
    """Count the segments with these flags that arrive for a port."""
    matches = [
        nft.Match(nft.TRANSPORT_HEADER, 2, port.to_bytes(2, "big")),
        nft.Match(nft.TRANSPORT_HEADER, 13, bytes([flags]), b"\x1f"),
    ]
    conditions = [*nft.version(host.family), *nft.protocol(socket.IPPROTO_TCP)]
    rule = (*conditions, *(e for match in matches for e in match.expressions()), *nft.counter())
    return nft.Table(
        host.namespace, f"counting{port}", {"arriving": nft.Chain("prerouting", nft.RAW_PRIORITY, (rule,))}
    )


@pytest.mark.ipv4_only("hping3 has no IPv6")
@pytest.mark.claim("commands.hping3")
def test_hping3(claim: ClaimRun, pair: Pair) -> None:
    def sent(printed: str) -> int:
        found = re.search(r"(\d+) packets transmitted", printed)
        assert found, printed
        return int(found[1])

    line = f"exec hping3 -c 100 -S -p 80 --flood {pair.server.ip}"
    find("hping3")
    with claim.effect("the document's line, -c 100 and --flood together, until interrupted") as effect:
        with drop(pair.server, "S", dport=80) as arrived:
            flooding = pair.client.start("sh", "-c", line)
            until(lambda: arrived.count >= 10_000, what="ten thousand SYNs")
            flooding.signal(signal.SIGINT)
            printed = flooding.wait().stdout
            effect.compare("SYNs that arrived", arrived.count, document=100, kernel=at_least(10_000))
            # Interrupted between the sending of a packet and its counting, hping3 counts one too few.
            uncounted = arrived.count - sent(printed)
            effect.compare("SYNs that arrived beyond those reported as sent", uncounted, document=between(0, 1))
            effect.note("SYNs", arrived.count)
    with claim.control("without --flood, a thousand a second") as control:
        with drop(pair.server, "S", dport=80) as arrived:
            printed = shell(pair.client, f"hping3 -c 100 -S -p 80 -i u1000 {pair.server.ip} 2>&1")
            control.expect("SYNs that arrived", arrived.count, 100)
            control.expect("SYNs reported as sent", sent(printed), 100)


@pytest.mark.claim("commands.nginx")
def test_nginx(claim: ClaimRun, pair: Pair) -> None:
    def accepted(server_block: str) -> bool:
        """Whether `nginx -t` takes a configuration with this server block."""
        file = pair.server.lab.directory / "printed.conf"
        file.write_text(AROUND.format(server_block))
        tested = pair.server.run("nginx", "-t", "-p", file.parent, "-c", file, check=False)
        tried.note(server_block, tested.stderr)
        return tested.returncode == 0

    for text, faults in PRINTED.items():
        with claim.effect(f"the document's text, which leaves out {faults}") as tried:
            tried.compare("nginx -t takes it", accepted(text), document=True, kernel=False)
            tried.compare("without its dots", accepted(re.sub(r"\.{4,}", "", text)), document=True, kernel=False)
    pair.server.sysctl["net.core.somaxconn"] = 5000
    with claim.effect("its text mended: `listen 8088 default backlog=5000;`, somaxconn 5000") as tried:
        tried.compare("nginx -t takes it", accepted(MENDED), document=True)
        Nginx(pair.server, "8088 default backlog=5000")
        (row,) = rows("header\n" + shell(pair.server, "ss -lnt | grep 8088"))
        tried.compare("Send-Q of ss -lnt | grep 8088", row.send_q, document=5000)
        tried.compare("Send-Q by inet_diag", accept_queue(pair.server, 8088).limit, document=5000)
    with claim.control("default_server, as it is called today, and no backlog") as control:
        Nginx(pair.server, "8089 default_server")
        (row,) = rows("header\n" + shell(pair.server, "ss -lnt | grep 8089"))
        control.expect("Send-Q of ss -lnt | grep 8089", row.send_q, 511)


# What a configuration needs beside a server block, with nothing of the machine's own nginx in it.
AROUND = """
user root;
pid printed.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {}
}}
"""
# The two server blocks as they are printed, and what each lacks.
PRINTED = {
    """server{
    listen 8088 default backlog=5000
    server_name localhost
    .....
}""": "both semicolons",
    """server{
    listen 8080 default backlog=1024;
    server_name localhost
    ....
}""": "the second semicolon",
}
MENDED = """server{
    listen 8088 default backlog=5000;
    server_name localhost;
}"""
