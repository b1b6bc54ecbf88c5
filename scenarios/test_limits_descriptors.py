"""Descriptors: which limit ends the number of connections when ports do not, and what one sees then."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.instruments.descriptors import (
    LONGEST_TABLE,
    NOBODY,
    UNLIMITED,
    AcceptingServer,
    Opened,
    ask_for_descriptors,
    connect_up_to,
    open_sockets,
    start_threads,
    users,
)
from harness.laws.ranges import at_least, at_most, between
from harness.observe import accept_queue, sockets
from harness.traffic import connect
from harness.waiting import until, until_equal

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Lab, Pair
    from harness.observe import Socket

PORT = 8000


@pytest.mark.claim("limits.process-fds")
def test_accept_without_descriptors(claim: ClaimRun, pair: Pair) -> None:
    address = pair.server.ip, PORT

    def waiting() -> list[Socket]:
        """A connection that no process has accepted belongs to no file, and inet_diag shows it without an inode."""
        return [row for row in sockets(pair.server, f"exclude listening sport = :{PORT}") if row.inode == 0]

    with claim.effect("ulimit -n 32: forty clients connect, and the server accepts as many as it can") as effect:
        server = AcceptingServer(pair.server, PORT, descriptors=32, wanted=40)
        clients = connect(pair.client, address, 40, wait=True, deadline=30)
        for client in clients.sockets:
            client.send(b"hello")
        state = server.accepts_no_more()
        room = 32 - state.before
        effect.compare("what accept() says then", state.error, document="EMFILE")
        effect.compare("connections accepted", state.accepted, document=room)
        effect.compare("the clients", dict(clients.results()), document={"connected": 40})
        until_equal(lambda: accept_queue(pair.server, PORT).waiting, 40 - room, deadline=30, what="connections waiting")
        effect.compare(
            "connections that wait for accept()", accept_queue(pair.server, PORT).waiting, document=40 - room
        )
        effect.compare("whether poll() finds the listener readable, each time", state.readable, document=[True] * 3)
        until(lambda: [row.recv_q for row in waiting()] == [5] * (40 - room), deadline=30, what="what the others sent")
        effect.compare("states of those that wait", {row.state for row in waiting()}, document={"ESTAB"})
        effect.premise("ListenOverflows", effect.delta(pair.server).TcpExt.ListenOverflows, 0)
    with claim.control("the same server, when its limit is raised") as control:
        server.go_on(descriptors=256)
        state = server.accepts_no_more()
        control.expect("connections accepted", state.accepted, 40)
        control.expect("what each had sent", state.read, ["hello"] * 40)
        control.expect("connections that wait", accept_queue(pair.server, PORT).waiting, 0)
    clients.close()
    server.stop()
    with claim.control("ulimit -n 256 from the beginning") as control:
        server = AcceptingServer(pair.server, PORT, descriptors=256, wanted=40)
        connect(pair.client, address, 40, wait=True, deadline=30)
        state = server.accepts_no_more()
        control.expect("connections accepted, and no error", (state.accepted, state.error), (40, None))


@pytest.mark.claim("limits.process-fds")
def test_connect_without_descriptors(claim: ClaimRun, pair: Pair) -> None:
    address = pair.server.ip, PORT
    AcceptingServer(pair.server, PORT, descriptors=256, wanted=200)
    with claim.effect("ulimit -n 32: a client connects as often as it can") as effect:
        client = connect_up_to(pair.client, *address, descriptors=32, wanted=40)
        room = 32 - client.before
        effect.compare("connections", client.connected, document=room)
        effect.compare("what socket() says then", client.error, document="EMFILE")
    with claim.control("ulimit -n 256") as control:
        client = connect_up_to(pair.client, *address, descriptors=256, wanted=40)
        control.expect("connections", (client.connected, client.error), (40, None))


@pytest.mark.claim("limits.ulimit-n-counts-threads")
@pytest.mark.ipv4_only("no packet is sent")
def test_ulimit_n_counts_threads(claim: ClaimRun, lab: Lab) -> None:
    host = lab.host("host")
    for name, user in users():
        with claim.effect(f"ulimit -n 32: a program of {name} starts a hundred threads") as effect:
            seen = start_threads(host, 100, limit="nofile", number=32, user=user)
            effect.compare("threads", seen.threads, document=at_most(32), kernel=100)
            effect.premise("sockets beside them: it is these that are limited", seen.sockets, at_most(32))
    # The last of them is no root, who would be exempt from the other limit (kernel/fork.c, copy_process()).
    with claim.control(f"ulimit -u 1: a program of {name} does") as control:
        seen = start_threads(host, 100, limit="nproc", number=1, user=user)
        control.expect("threads", seen.threads, 0)
        control.expect("sockets beside them", seen.sockets, at_least(100))


@pytest.mark.claim("limits.user-limit")
def test_user_limit(claim: ClaimRun, pair: Pair) -> None:
    address = pair.server.ip, PORT
    AcceptingServer(pair.server, PORT, descriptors=512, wanted=300)

    def open_of(*limits: int) -> list[int]:
        """What programs of one user, with these limits, have open when each has connected a hundred times or failed."""
        ended = [connect_up_to(pair.client, *address, descriptors=limit, wanted=100) for limit in limits]
        return [each.before + each.connected for each in ended]

    with claim.effect("the limit of 32 as a login sets it, in three processes of a user that run at once") as effect:
        effect.compare("what the user has open", sum(open_of(32, 32, 32)), document=at_most(32), kernel=96)
    with claim.control("one of them alone") as control:
        control.expect("what it has open", open_of(32), [32])
    with claim.control("a limit of 256") as control:
        control.expect("what one has open, a hundred connections among it", sum(open_of(256)), at_least(100))


@pytest.mark.claim("limits.nr-open-shows-process-limit")
@pytest.mark.ipv4_only("no packet is sent")
def test_nr_open_shows_process_limit(claim: ClaimRun, lab: Lab) -> None:
    host = lab.host("host")
    shown = int(host.run("cat", "/proc/sys/fs/nr_open").stdout)
    for limit in (64, 1024):
        with claim.effect(f"a process with ulimit -n {limit} opens what it can") as effect:
            seen = ask_for_descriptors(host, limit)
            effect.compare("its last descriptor", seen.last[0], document=shown - 1, kernel=limit - 1)
            effect.compare("what one more gets", seen.last[1], document="EMFILE")
    with claim.control("a process whose limit is as high as fs.nr_open: there the number is right") as control:
        seen = ask_for_descriptors(host, shown)
        most = shown if seen.may_raise else seen.hard
        control.expect("its limit", seen.limit, most)
        if most <= LONGEST_TABLE:
            control.expect("its last descriptor, and one more", seen.last, [most - 1, "EMFILE"])


@pytest.mark.claim("limits.nr-open")
def test_nr_open(claim: ClaimRun, pair: Pair) -> None:
    ceiling = int(pair.client.run("cat", "/proc/sys/fs/nr_open").stdout)
    for name, user in users():
        with claim.effect(f"{name} asks for more descriptors than fs.nr_open") as effect:
            seen = ask_for_descriptors(pair.client, UNLIMITED, ceiling + 1, user=user)
            effect.note("seen", seen)
            effect.compare("setrlimit(unlimited)", seen.to(UNLIMITED), document="EPERM")
            effect.compare(f"setrlimit({ceiling + 1})", seen.to(ceiling + 1), document="EPERM")
            effect.compare("the limit in the end", seen.limit, document=at_most(ceiling))
        with claim.control(f"{name} asks for as many as fs.nr_open") as control:
            seen = ask_for_descriptors(pair.client, ceiling, user=user)
            control.note("seen", seen)
            # Who may not raise a hard limit is stopped by that of his own, and sees the same errno.
            most = ceiling if seen.may_raise else seen.hard
            allowed = "ok" if most == ceiling else "EPERM"
            control.expect(f"setrlimit({ceiling})", seen.to(ceiling), allowed)
            control.expect("the limit in the end", seen.limit, most)
            if most <= LONGEST_TABLE:
                control.expect("the last descriptor, and one more", seen.last, [most - 1, "EMFILE"])


@pytest.mark.claim("limits.nr-open")
@pytest.mark.machine_wide("fs.nr_open")
@pytest.mark.ipv4_only("no packet is sent")
def test_nr_open_lowered(claim: ClaimRun, lab: Lab) -> None:
    host = lab.host("host")
    with claim.control("fs.nr_open as it is, root asks for 5000 descriptors") as control:
        seen = ask_for_descriptors(host, 5000)
        control.expect("setrlimit(5000)", seen.to(5000), "ok")
        control.expect("its last descriptor", seen.last[0], 4999)
    with claim.effect("fs.nr_open lowered to 4096, root asks for 5000 descriptors") as effect:
        lab.machine_sysctl["fs.nr_open"] = 4096
        seen = ask_for_descriptors(host, 5000)
        effect.compare("setrlimit(5000)", seen.to(5000), document="EPERM")
        # The limit that the process was born with may still stand above fs.nr_open, and is worth nothing then.
        effect.note("its own limit", seen.limit)
        effect.compare("the last descriptor below its own limit", seen.last[0], document="EMFILE")


@pytest.mark.claim("limits.file-max")
@pytest.mark.machine_wide("fs.file-max")
@pytest.mark.ipv4_only("no packet is sent")
def test_file_max(claim: ClaimRun, lab: Lab) -> None:
    host = lab.host("host")
    used = int(Path("/proc/sys/fs/file-nr").read_text().split()[0])
    # Each processor counts by itself, and the sum is looked at when they are about to be too many (fs/file_table.c).
    slack = (os.cpu_count() or 1) * max(32, 2 * (os.cpu_count() or 1)) + 32
    with claim.control("fs.file-max as it is, an ordinary user opens 1000 sockets") as control:
        control.expect("opened", open_sockets(host, 1000, user=NOBODY), Opened(1000))
    with claim.effect("fs.file-max 500 above what the machine has open, an ordinary user opens sockets") as effect:
        lab.machine_sysctl["fs.file-max"] = used + 500
        result = open_sockets(host, 1000, user=NOBODY)
        effect.compare("what socket() says in the end", result.error, document="ENFILE")
        effect.compare("sockets opened before", result.opened, document=between(500 - slack, 500 + slack))
        effect.note("opened", result.opened)
    with claim.control("the same, root, who is exempt (CAP_SYS_ADMIN)") as control:
        control.expect("opened", open_sockets(host, 1000), Opened(1000))
