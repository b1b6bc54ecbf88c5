"""The documents' lines that ask the kernel for its settings: its log, the files below /proc/sys, sysctl."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING

import pytest

from harness import traffic, waiting
from harness.errors import Unsupported
from harness.instruments.slabs import CHILD_EHASH, EHASH, HASH_TABLE
from harness.laws import before, since
from harness.laws.ranges import one_of
from harness.observe import shell
from harness.traffic import RawPeer, listen
from harness.traffic.ports import PORT_RANGE

if TYPE_CHECKING:
    from harness.claims.phases import LivePhase
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair

# Of a machine that is ten times as slow. A deadline measures nothing.
until = partial(waiting.until, deadline=60.0)
connect = partial(traffic.connect, deadline=60.0)

SYN_RETRIES, FIN_TIMEOUT = "net.ipv4.tcp_syn_retries", "net.ipv4.tcp_fin_timeout"


def logged(host: Host, table: str) -> list[tuple[int, int]]:
    """Entries and bytes of the tables that the documents' line finds in the log; Unsupported where it has no boot.

    The log is a ring: after days the lines of boot are overwritten, the first ones first, and these are not the first.
    And kernel.dmesg_restrict keeps it for root.
    """
    log = host.run("dmesg", check=False)
    if "Linux version" not in log.stdout and "hash table entries" not in log.stdout:
        why = "not for this user to read" if log.returncode else "overwritten, or was never kept"
        raise Unsupported(f"what the kernel logged at boot is {why}: run it as root, soon after boot")
    found = HASH_TABLE.findall(shell.printed(host, f'dmesg | grep "TCP {table} hash table"'))
    return [(int(entries), int(size)) for entries, size in found]


def entries_of(host: Host) -> int:
    """The entries of the table of connections as the kernel says them: by a sysctl, negative if all share the table;
    where there is none, by tcp_max_tw_buckets, which is half of it in a fresh namespace (tcp_sk_init())."""
    if EHASH in host.sysctl:
        return abs(int(host.sysctl[EHASH]))
    return 2 * int(host.sysctl["net.ipv4.tcp_max_tw_buckets"])


@pytest.mark.claim("commands.dmesg-hash-table")
def test_dmesg_hash_table(claim: ClaimRun, pair: Pair) -> None:
    server, size = pair.server, entries_of(pair.server)
    with claim.effect("the document's line") as effect:
        ((entries, taken),) = logged(server, "established")
        effect.compare("entries", entries, document=size)
        one_list = since("hash-slot-has-one-list")
        effect.compare("bytes of each", taken // entries, document=8, kernel=8 if one_list else 16)
    with claim.control("another table: that of the bound ports") as control:
        ((others, _),) = logged(server, "bind")
        control.expect("entries: as many, or all of 65,536", others, min(entries, 65_536))
    if since("namespace-may-have-its-own-ehash"):
        with claim.control(
            "a host with a table of its own, tcp_child_ehash_entries 1024, of which the log has nothing"
        ) as control:
            server.sysctl[CHILD_EHASH] = 1024
            with server:
                child = server.lab.host("child")
            control.expect("entries", entries_of(child), 1024)
            control.expect("lines of the log", logged(server, "established"), [(entries, taken)])


@pytest.mark.claim("commands.dmesg-bind-hash-table")
def test_dmesg_bind_hash_table(claim: ClaimRun, pair: Pair) -> None:
    server, size = pair.server, entries_of(pair.server)
    with claim.effect("the document's line") as effect:
        ((entries, taken),) = logged(server, "bind")
        # At most 65,536, and no more than the table of connections has (net/ipv4/tcp.c, tcp_init()).
        effect.compare("entries", entries, document=min(size, 65_536))
        two_tables = since("bind-forgets-time-wait")
        effect.compare("bytes of each", taken // entries, document=16, kernel=32 if two_tables else 16)
    with claim.control("another table: that of the connections") as control:
        ((entries, taken),) = logged(server, "established")
        control.expect("entries", entries, size)
        control.expect("bytes of each", taken // entries, one_of(8, 16))


def ports_in_force(client: Host, server: Host) -> list[int]:
    """The first and the last of the ports that as many connections have as there is room for."""
    taken = sorted(attempt.port for attempt in connect(client, listen(server), 10, wait=True))
    return [taken[0], taken[-1]]


def limit_in_force(client: Host, server: Host, phase: LivePhase) -> list[int]:
    """tcp_max_syn_backlog as SYNs find it without cookies: one more than three quarters of it are kept."""
    listener = listen(server, 1000)
    RawPeer(server, client).half_open(listener, 100)
    until(lambda: phase.delta(server).TcpExt.ListenDrops + listener.half_open == 100, what="100 SYNs")
    return [(listener.half_open - 1) * 4 // 3]


def cookies_in_force(client: Host, server: Host, phase: LivePhase) -> list[int]:
    """tcp_syncookies, 0 or 1, as SYNs at a full queue find it: whether the kernel has sent cookies."""
    RawPeer(server, client).half_open(listen(server, 2), 20)
    moved = phase.delta
    until(lambda: moved(server).TcpExt.SyncookiesSent + moved(server).TcpExt.ListenDrops >= 15, what="a full queue")
    return [int(moved(server).TcpExt.SyncookiesSent > 0)]


def reset_in_force(client: Host, server: Host) -> list[int]:
    """tcp_abort_on_overflow, 0 or 1, as a third ACK at a full accept queue finds it: whether the peer gets RST."""
    listener, peer = listen(server, 2), RawPeer(server, client)
    late, afterwards = peer.connection(listener), peer.connection(1)
    late.syn(deadline=60)
    connect(client, listener, 3, wait=True)
    until(lambda: listener.waiting == 3, what="a full accept queue")
    late.send("A")
    # Nobody listens there: what comes of the ACK before comes before this RST.
    afterwards.send("S")
    afterwards.wait("RA", deadline=60)
    return [int(any("R" in str(reply.flags) for reply in late.replies()))]


@pytest.mark.claim("commands.cat-proc-sys")
def test_cat_proc_sys(claim: ClaimRun, pair: Pair) -> None:
    """What cat prints of each setting that the documents look at, beside what a connection finds in force."""
    client, server = pair.client, pair.server

    def cat(host: Host, knob: str) -> list[int]:
        """What cat prints; where old kernels have a knob in the initial namespace alone, what it would print there."""
        path = f"cat /proc/sys/net/ipv4/{knob}"
        return [int(word) for word in (shell.printed(host, path) or host.sysctl[f"net.ipv4.{knob}"]).split()]

    with claim.effect("ip_local_port_range: 60000 60009, then 61000 61009") as effect:
        for ten in ("60000 60009", "61000 61009"):
            client.sysctl[PORT_RANGE] = ten
            effect.compare(
                "cat, where ports are taken",
                cat(client, "ip_local_port_range"),
                document=ports_in_force(client, server),
            )
    for value in (16, 64):
        with claim.effect(f"cookies off, and tcp_max_syn_backlog {value}") as effect:
            server.sysctl["net.ipv4.tcp_syncookies"] = 0
            server.sysctl["net.ipv4.tcp_max_syn_backlog"] = value
            found = limit_in_force(client, server, effect)
            effect.compare("cat, where SYNs are dropped", cat(server, "tcp_max_syn_backlog"), document=found)
    for value in (0, 1):
        with claim.effect(f"tcp_syncookies {value}, by echo; tcp_abort_on_overflow {value}") as effect:
            shell.printed(server, f"echo {value} > /proc/sys/net/ipv4/tcp_syncookies")
            found = cookies_in_force(client, server, effect)
            effect.compare("cat, where a SYN queue is full", cat(server, "tcp_syncookies"), document=found)
            server.sysctl["net.ipv4.tcp_abort_on_overflow"] = value
            found = reset_in_force(client, server)
            effect.compare("cat, where an accept queue is full", cat(server, "tcp_abort_on_overflow"), document=found)
    with claim.control("the other host, where nobody has set anything") as control:
        control.expect("where ports begin", cat(server, "ip_local_port_range")[0], 32768)
        control.expect(
            "tcp_syncookies, and what SYNs find",
            cat(client, "tcp_syncookies"),
            cookies_in_force(server, client, control),
        )


@pytest.mark.claim("commands.sysctl")
def test_sysctl(claim: ClaimRun, pair: Pair) -> None:
    def by_a_socket(host: Host) -> dict[str, int]:
        """What a new socket takes from the two knobs (net/ipv4/tcp.c, do_tcp_getsockopt())."""
        options = {SYN_RETRIES: socket.TCP_SYNCNT, FIN_TIMEOUT: socket.TCP_LINGER2}
        with host.socket() as fresh:
            return {knob: fresh.getsockopt(socket.IPPROTO_TCP, option) for knob, option in options.items()}

    if before("syn-retries-per-namespace"):
        raise Unsupported("the initial namespace alone has tcp_syn_retries: sysctl in a lab has nothing to print")
    for values in ((1, 30), (5, 77)):
        with claim.effect(f"tcp_syn_retries {values[0]}, tcp_fin_timeout {values[1]}") as effect:
            for knob, value in zip((SYN_RETRIES, FIN_TIMEOUT), values, strict=True):
                pair.client.sysctl[knob] = value
                effect.premise(f"{knob}, by a socket", by_a_socket(pair.client)[knob], value)
                printed = shell.printed(pair.client, f"sysctl {knob}")
                effect.compare(f"sysctl {knob}", printed, document=f"{knob} = {value}\n")
    with claim.control("the other host, where nobody has set anything") as control:
        for knob, value in by_a_socket(pair.server).items():
            control.expect(f"sysctl {knob}", shell.printed(pair.server, f"sysctl {knob}"), f"{knob} = {value}\n")
            control.expect(f"{knob} beside what was set", value in (30, 77, 1, 5), False)
