"""The documents' lines that ask the kernel for its settings: its log, the files below /proc/sys, sysctl."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING

import pytest

from harness import traffic, waiting
from harness.errors import Unsupported
from harness.evidence import output, port
from harness.instruments.slabs import CHILD_EHASH, EHASH, HASH_TABLE
from harness.laws import queues, since
from harness.laws.kernel import running
from harness.laws.queues import Knobs
from harness.observe import count, shell
from harness.traffic import RawPeer, listen
from harness.traffic.ports import PORT_RANGE

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair

# Of a machine that is ten times as slow. A deadline measures nothing.
until = partial(waiting.until, deadline=60.0)
connect = partial(traffic.connect, deadline=60.0)

SYN_RETRIES, FIN_TIMEOUT = "net.ipv4.tcp_syn_retries", "net.ipv4.tcp_fin_timeout"


@pytest.mark.claim("commands.dmesg-hash-table")
def test_dmesg_hash_table(claim: ClaimRun, pair: Pair) -> None:
    server, line = pair.server, 'dmesg | grep "TCP established hash table"'
    own_tables = since("namespace-may-have-its-own-ehash")

    def logged() -> list[int]:
        """The entries that the log has."""
        return [int(entries) for entries, _ in HASH_TABLE.findall(shell.printed(server, line))]

    def entries(host: Host) -> int:
        """The size of the table as the kernel says it: by a sysctl of its own, negative if it is shared; where there is
        none, by tcp_max_tw_buckets, which is half of it in a fresh namespace (net/ipv4/tcp_ipv4.c, tcp_sk_init())."""
        if EHASH in host.sysctl:
            return abs(int(host.sysctl[EHASH]))
        return 2 * int(host.sysctl["net.ipv4.tcp_max_tw_buckets"])

    size = entries(server)
    log = server.run("dmesg", check=False)
    # The log is a ring: after days the lines of boot are overwritten, the first ones first, and this one is not the
    # first. And kernel.dmesg_restrict keeps it for root.
    whole = "Linux version" in log.stdout or "TCP established hash table" in log.stdout
    if not own_tables and not whole:
        why = "not for this user to read" if log.returncode else "overwritten"
        raise Unsupported(f"what the kernel logged at boot is {why}: run it as root, soon after boot")
    at_boot = [size] if whole else []
    with claim.effect("a host that shares the machine's table") as effect:
        effect.note("the log reaches back to boot", whole)
        lines = (shell.printed(server, each) for each in (line, 'dmesg | grep "TCP bind hash table"'))
        effect.note("lines", [output(each) for each in lines])
        effect.compare("entries that the log has", logged(), document=[size], kernel=at_boot)
    with claim.control("the kernel's own word for it") as control:
        control.expect("tcp_max_tw_buckets, half of it", int(server.sysctl["net.ipv4.tcp_max_tw_buckets"]), size // 2)
    if own_tables:
        with claim.effect("a host with a table of its own, tcp_child_ehash_entries 1024 where it was made") as effect:
            server.sysctl[CHILD_EHASH] = 1024
            with server:
                child = server.lab.host("child")
            effect.premise("entries", int(child.sysctl[EHASH]), 1024)
            effect.compare("entries that the log has", logged(), document=[1024], kernel=at_boot)


@pytest.mark.claim("commands.cat-proc-sys")
def test_cat_proc_sys(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server

    def cat(host: Host, path: str) -> list[int]:
        """What cat prints; where old kernels have a knob in the initial namespace alone, what it would print there."""
        return [int(word) for word in (shell.printed(host, f"cat /proc/sys/{path}") or host.sysctl[path]).split()]

    with claim.effect("a port range of ten") as effect:
        client.sysctl[PORT_RANGE] = "60000 60009"
        first, last = cat(client, "net/ipv4/ip_local_port_range")
        taken = port(sorted(attempt.port for attempt in connect(client, listen(server), 10, wait=True)))
        effect.compare("the ports that ten connections have", taken, document=list(range(first, last + 1)))
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
        shell.printed(server, "echo 1 > /proc/sys/net/ipv4/tcp_syncookies")
        effect.compare("tcp_syncookies", cat(server, "net/ipv4/tcp_syncookies"), document=[1])
        RawPeer(server, client).half_open(listen(server, 2), 10)
        until(lambda: effect.delta(server).TcpExt.SyncookiesSent >= 7, what="cookies")
    of_the_machine = "the machine's: fs.file-max beside the third number of fs/file-nr; tcp_abort_on_overflow"
    with claim.effect(of_the_machine) as effect:
        effect.compare("fs.file-max", cat(server, "fs/file-max"), document=cat(server, "fs/file-nr")[2:])
        effect.compare("tcp_abort_on_overflow", cat(server, "net/ipv4/tcp_abort_on_overflow"), document=[0])
        effect.note("fs.nr_open, which limits.nr-open holds against setrlimit()", cat(server, "fs/nr_open"))
    with claim.control("the other host, where nobody has set anything") as control:
        control.expect("where ports begin", cat(server, "net/ipv4/ip_local_port_range")[0], 32768)
        control.expect("tcp_syncookies", cat(client, "net/ipv4/tcp_syncookies"), [1])


@pytest.mark.claim("commands.sysctl")
def test_sysctl(claim: ClaimRun, pair: Pair) -> None:
    def by_a_socket(host: Host) -> dict[str, int]:
        """What a new socket takes from the two knobs (net/ipv4/tcp.c, do_tcp_getsockopt())."""
        options = {SYN_RETRIES: socket.TCP_SYNCNT, FIN_TIMEOUT: socket.TCP_LINGER2}
        with host.socket() as fresh:
            return {knob: fresh.getsockopt(socket.IPPROTO_TCP, option) for knob, option in options.items()}

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
