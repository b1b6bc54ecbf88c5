"""Sockets of real hosts in ten states: against ss, with its own filters, and against getsockopt(TCP_INFO).

The parse of what ss prints is this file's own.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput
from harness.observe import TcpInfo, count, end_between, half_open, sockets
from harness.observe.sockets import ONE_BY_ONE, states_of
from harness.observe.tcp_info import decode
from harness.traffic import RawPeer, connect, drop, listen
from harness.traffic.closing import leave_time_wait
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Pair
    from harness.lab.host import Host
    from harness.observe import Socket

ONLY = {"established": "ESTAB", "listening": "LISTEN", "syn-recv": "SYN-RECV", "time-wait": "TIME-WAIT"}

Row = tuple[str, int, int, str, str]


def rows_of_ss(host: Host, *words: str) -> Counter[Row]:
    """What `ss -tanH` prints: state, two queues, local and remote endpoint."""
    rows: Counter[Row] = Counter()
    for line in host.run("ss", "-tanH", *words).stdout.splitlines():
        columns = line.split()
        if columns[0].isdecimal():  # of a single state it leaves the column out
            columns.insert(0, ONLY[words[1]])
        state, received, sent, local, remote = columns[:5]
        rows[state, int(received), int(sent), local, remote] += 1
    return rows


def rows(found: list[Socket]) -> Counter[Row]:
    return Counter((one.state, one.recv_q, one.send_q, shown(one.local), shown(one.remote)) for one in found)


def shown(endpoint: tuple[str, int]) -> str:
    address, port = endpoint
    return f"{f'[{address}]' if ':' in address else address}:{port or '*'}"


@pytest.fixture
def busy(pair: Pair) -> Pair:
    """A server on port 8080 and its client, with sockets in every state but CLOSING."""
    client, server = pair.client, pair.server
    keep: list[socket.socket] = []
    listener = listen(server, 16, port=8080)
    listen(server, 3, port=9090)
    RawPeer(server, client).half_open(listener, 2)

    def connected() -> tuple[socket.socket, socket.socket]:
        (here,) = connect(client, listener).wait(1).sockets
        (there,) = listener.accept(1)
        keep.extend((here, there))
        return here, there

    here, _ = connected()
    here.send(b"unread")
    _, there = connected()
    there.shutdown(socket.SHUT_WR)  # FIN-WAIT-2 there, CLOSE-WAIT here
    _, there = connected()
    there.close()  # the same, but the socket is gone: the kernel keeps a small one with a timer
    here, there = connected()
    there.shutdown(socket.SHUT_WR)
    until(lambda: count(client, "state close-wait") == 3)
    here.close()  # TIME-WAIT there
    until(lambda: count(server, "state time-wait") == 1)

    leaving, left = connected()
    staying, stayed = connected()
    stayed.shutdown(socket.SHUT_WR)
    until(lambda: count(client, "state close-wait") == 3)
    drop(server, "FA")
    leaving.close()  # FIN-WAIT-1 here
    staying.close()  # LAST-ACK here
    assert left.fileno() != -1
    drop(server, dport=7070)
    connect(client, (server.ip, 7070))  # SYN-SENT here
    connect(client, listener, 2).wait(2)  # two wait to be accepted

    for one in keep:
        client.lab.on_close(one.close)
    until(lambda: count(server, "state syn-recv") == 2, what="two half-open connections")
    until(lambda: any(one.recv_q == 6 for one in sockets(server, "state established")), what="unread bytes")
    until(lambda: any(one.recv_q == 2 for one in sockets(server, "state listening")), what="two that wait")
    until(lambda: not any(one.send_q for one in sockets(client, "state established")), what="the acknowledgement")
    until(lambda: count(server, "state fin-wait-2") == 3 and count(client, "state last-ack") == 1, what="all the FINs")
    return pair


def test_all_rows_are_those_of_ss(busy: Pair) -> None:
    for host in (busy.client, busy.server):
        assert rows(sockets(host)) == rows_of_ss(host)
    assert {one.state for one in sockets(busy.client)} == {
        "ESTAB",
        "SYN-SENT",
        "CLOSE-WAIT",
        "FIN-WAIT-1",
        "LAST-ACK",
    }
    assert {one.state for one in sockets(busy.server)} == {"LISTEN", "SYN-RECV", "ESTAB", "FIN-WAIT-2", "TIME-WAIT"}


FILTERS = (
    "state syn-recv",
    "state syn-recv state time-wait",
    "state connected",
    "state synchronized",
    "state bucket",
    "state big",
    "exclude listening",
    "exclude established exclude bucket",
    "state all sport = :8080",
    "state established sport = :8080",
    "state all ( sport = :8080 or dport = :8080 )",
    "state all not ( sport = :8080 or dport = :8080 )",
    "state all sport >= :8080 and sport < :9000",
    "state all dport != :8080",
    "state all dport = :8080 and not sport <= :1024",
    "state all dport = :7070 or sport = :9090",
    "state all sport = :8080 or dport = :8080 and sport = :9090",
    "state all sport = :9090 or sport = :8080 and dport >= :1024",
    "state all sport = :9090 or sport = :8080 dport >= :1024",
    "state all sport = :9090 or ( sport = :8080 and dport >= :1024 )",
    "state listening src HOST",
    "state listening src HOST:9090",
    "state all dst HOST",
    "state all src NETWORK dst NETWORK",
    "state all src 192.0.2.0/24",
)


def of_the_family(text: str, host: Host) -> str:
    if host.family == socket.AF_INET:
        return text.replace("HOST", host.ip).replace("NETWORK", re.sub(r"\d+$", "0/24", host.ip))
    return text.replace("HOST", f"[{host.ip}]").replace("NETWORK", f"[{host.ip.partition('::')[0]}::/64]")


def test_half_open_requests_of_a_port_are_those_that_ss_shows(busy: Pair) -> None:
    for port, n in ((8080, 2), (9090, 0), (8081, 0)):
        shown_by_ss = rows_of_ss(busy.server, "state", "syn-recv", "sport", "=", f":{port}")
        assert half_open(busy.server, port) == shown_by_ss.total() == n
    RawPeer(busy.server, busy.client).half_open(9090, 3)
    until(lambda: half_open(busy.server, 9090) == 3, what="three at the other port")
    assert half_open(busy.server, 8080) == 2


def test_filters_select_what_ss_selects(busy: Pair) -> None:
    chosen: Counter[str] = Counter()
    for template in FILTERS:
        for host in (busy.client, busy.server):
            text = of_the_family(template, busy.server)
            expected = rows_of_ss(host, *text.split())
            assert (text, rows(sockets(host, text))) == (text, expected)
            assert count(host, text) == expected.total()
            chosen[template] += expected.total()
    assert [text for text in FILTERS if not chosen[text]] == [
        "state all sport = :8080 or dport = :8080 and sport = :9090",
        "state all src 192.0.2.0/24",
    ]


def test_families_are_told_apart(pair: Pair) -> None:
    other = {socket.AF_INET: socket.AF_INET6, socket.AF_INET6: socket.AF_INET}[pair.server.family]
    listener = listen(pair.server)
    connect(pair.client, listener, wait=True)
    assert count(pair.client) == count(pair.client, family=pair.client.family) == 1
    assert count(pair.client, family=other) == 0
    (one,) = sockets(pair.client)
    assert one.family == pair.client.family
    assert (one.local[0], one.remote) == (pair.client.ip, listener.address[:2])


def test_one_family_after_the_other_however_the_kernel_has_them(pair: Pair) -> None:
    with ExitStack() as stack:
        for family in (socket.AF_INET6, socket.AF_INET) * 8:
            stack.enter_context(pair.server.socket(family=family)).listen()
        found = sockets(pair.server, "state listening")
        assert [one.family for one in found] == [socket.AF_INET] * 8 + [socket.AF_INET6] * 8
        for family in (socket.AF_INET, socket.AF_INET6):
            assert count(pair.server, family=family) == 8
            assert sockets(pair.server, family=family) == [one for one in found if one.family == family]


def test_a_mapped_address_is_in_the_ipv4_network(pair: Pair) -> None:
    with pair.server, socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True):
        with pair.client:
            ours = socket.create_connection((pair.server.address(socket.AF_INET), 8080))
        with ours:
            network = pair.server.address(socket.AF_INET) + "/24"
            until(lambda: count(pair.server, "state established sport = :8080") >= 1)
            text = f"state established src {network}"
            assert rows(sockets(pair.server, text)) == rows_of_ss(pair.server, *text.split())
            assert all(one.local[0].startswith("::ffff:10.") for one in sockets(pair.server, text))
            assert count(pair.server, text) >= 1


def test_sockets_bound_to_an_interface(pair: Pair) -> None:
    name, interface = next(iter(pair.server.interfaces.items()))
    with pair.server.socket() as bound, pair.server.socket() as free:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
        bound.listen()
        free.listen()
        assert [one.interface for one in sockets(pair.server, f"dev {name}")] == [interface.index]
        assert [one.interface for one in sockets(pair.server, f"dev != {name}")] == [0]
        with pytest.raises(BadInput, match="no interface 'eth7'"):
            sockets(pair.server, "dev eth7")


def timers_of_ss(host: Host) -> dict[tuple[str, str], tuple[str, int]]:
    """Kind and retransmissions by endpoints, as `ss -tano` prints them: timer:(on,396ms,0)."""
    found = {}
    for line in host.run("ss", "-tanHo").stdout.splitlines():
        timer = re.search(r"timer:\((\w+),[^,]*,(\d+)\)", line)
        if timer:
            _, _, _, local, remote = line.split()[:5]
            found[local, remote] = (timer[1], int(timer[2]))
    return found


def test_timers_are_those_of_ss(busy: Pair) -> None:
    def timers(host: Host) -> dict[tuple[str, str], tuple[str, int]]:
        return {
            (shown(one.local), shown(one.remote)): (one.timer.kind, one.timer.retransmits)
            for one in sockets(host)
            if one.timer
        }

    for host in (busy.client, busy.server):
        # A timer may fire between the two looks, so they may take another.
        until(lambda host=host: timers(host) == timers_of_ss(host), what="the timers that ss shows")  # type: ignore[misc]
    kinds = {(one.state, one.timer.kind) for one in sockets(busy.server) if one.timer}
    assert kinds == {("SYN-RECV", "on"), ("FIN-WAIT-2", "timewait"), ("TIME-WAIT", "timewait")}
    (waiting,) = sockets(busy.server, "state time-wait")
    assert waiting.timer is not None
    assert 0 < waiting.timer.expires <= 60  # TCP_TIMEWAIT_LEN, include/net/tcp.h


def test_keepalive_and_zero_window_timers(pair: Pair) -> None:
    listener = listen(pair.server)
    attempts = connect(pair.client, listener, 2).wait(2)
    idle, pushing = attempts.sockets
    idle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    until(lambda: _fill(pushing) and _timers(pair.client) == {"keepalive", "persist"}, what="a closed window")


def _fill(pushing: socket.socket) -> bool:
    try:
        return bool(pushing.send(bytes(1 << 16)))
    except BlockingIOError:
        return True


def _timers(host: Host) -> set[str]:
    return {one.timer.kind for one in sockets(host) if one.timer}


def test_tcp_info_is_that_of_getsockopt(pair: Pair) -> None:
    listener = listen(pair.server)
    (connection,) = connect(pair.client, listener, wait=True).sockets
    until(lambda: count(pair.server, "state established") == 1, what="the last ACK")
    (one,) = sockets(pair.client)
    direct = decode(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 512))
    assert one.info is not None
    elapsed = {name for name in TcpInfo.__dataclass_fields__ if name.startswith("last_")}
    for name in TcpInfo.__dataclass_fields__.keys() - elapsed:
        assert (name, getattr(one.info, name)) == (name, getattr(direct, name))


def test_tcp_info_is_what_ss_prints(pair: Pair) -> None:
    pair.client.sysctl["net.ipv4.tcp_sack"] = 0
    listener = listen(pair.server)
    (connection,) = connect(pair.client, listener, wait=True).sockets
    connection.send(bytes(1000))
    until(lambda: sockets(pair.client)[0].send_q == 0, what="the acknowledgement")
    (one,) = sockets(pair.client)
    info = one.info
    assert info is not None
    printed = pair.client.run("ss", "-tnioH").stdout
    words = dict(re.findall(r"(\w+):([\d.]+)", printed))
    assert (info.snd_cwnd, info.advmss, info.snd_mss, info.pmtu) == tuple(
        int(words[name]) for name in ("cwnd", "advmss", "mss", "pmtu")
    )
    assert (info.bytes_sent, info.segs_out, info.segs_in) == (
        int(words["bytes_sent"]),
        int(words["segs_out"]),
        int(words["segs_in"]),
    )
    assert info.rto * 1000 == pytest.approx(float(words["rto"]))
    flags = printed.replace(":", " ").split()
    scales = re.search(r"wscale:(\d+),(\d+)", printed)
    assert scales is not None
    assert (info.snd_wscale, info.rcv_wscale) == (int(scales[1]), int(scales[2]))
    assert (info.timestamps, info.sack, info.window_scaling) == ("ts" in flags, "sack" in flags, True)
    assert info.timestamps
    assert not info.sack
    assert one.congestion in flags
    assert one.inode == os.fstat(connection.fileno()).st_ino


def test_a_listener_tells_its_queue_and_its_limit(pair: Pair) -> None:
    listener = listen(pair.server, 5)
    connect(pair.client, listener, 3).wait(3)
    (one,) = until(lambda: [one for one in sockets(pair.server, "state listening") if one.recv_q == 3])
    assert (one.recv_q, one.send_q) == (3, 5)
    assert one.info is not None
    assert (one.info.unacked, one.info.sacked) == (3, 5)
    assert {one.inode for one in sockets(pair.server, "state established")} == {0}  # nobody has accepted them


def test_a_dump_of_many_reads(pair: Pair) -> None:
    """More than one receive buffer of answers: nothing is lost or seen twice."""
    listener = listen(pair.server, 64)
    pair.client.sysctl["net.ipv4.ip_local_port_range"] = "20000 40000"
    n = 1500
    for _ in range(n):
        with pair.client.socket() as ended:
            ended.connect(listener.address)
            (accepted,) = listener.accept(1)
        accepted.close()
    until(lambda: count(pair.client, "state time-wait") == n)
    found = sockets(pair.client, "state time-wait")
    assert len({one.local for one in found}) == len(found) == n
    assert rows(found) == rows_of_ss(pair.client, "state", "time-wait")


def test_sockets_that_are_only_bound(pair: Pair) -> None:
    """Shown since 91051f003948, 6.8; a kernel that cannot shows none."""
    with pair.server.socket() as bound:
        bound.bind((pair.server.ip, 8080))
        assert count(pair.server) == 0
        assert [one.local for one in sockets(pair.server, "state bound-inactive")] in ([], [(pair.server.ip, 8080)])


def test_a_connection_is_found_by_its_ends_in_each_state(busy: Pair) -> None:
    found = [
        (host, one)
        for host in (busy.client, busy.server)
        for one in sockets(host, "exclude listening", family=host.family)
    ]
    assert {"ESTAB", "TIME-WAIT", "SYN-RECV", "FIN-WAIT-2"} <= {one.state for _, one in found}
    by_ends = [end_between(host, one.local, one.remote) for host, one in found]
    assert [(one.state, one.local, one.remote, one.cookie) for _, one in found] == [
        one and (one.state, one.local, one.remote, one.cookie) for one in by_ends
    ]


@pytest.mark.parametrize("requests", [True, False], ids=["since 4.4", "before"])
def test_a_listener_is_no_connection(busy: Pair, monkeypatch: pytest.MonkeyPatch, requests: bool) -> None:
    monkeypatch.setattr(sys.modules["harness.observe.sockets"], "_finds_requests", lambda: requests)
    nobody = busy.client.ip, 1
    # The kernel finds the listener, to which a packet from there would go.
    assert end_between(busy.server, (busy.server.ip, 8080), nobody) is None
    assert end_between(busy.server, (busy.server.ip, 1), nobody) is None


def test_a_few_connections_and_many_have_the_same_states(pair: Pair) -> None:
    ends = leave_time_wait(pair.client, listen(pair.server), ONE_BY_ONE + 1)
    assert states_of(pair.client, ends) == dict.fromkeys(ends, "TIME-WAIT")
    assert states_of(pair.client, ends[1:]) == dict.fromkeys(ends[1:], "TIME-WAIT")
    assert states_of(pair.server, ends[1:]) == {}
