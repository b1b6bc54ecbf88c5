"""Descriptors and memory: which limit ends the number of connections when ports do not, and what one sees then."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import Forbidden, NotReady, Unsupported
from harness.laws.ranges import at_least, at_most, between
from harness.observe import accept_queue, count, sockets
from harness.observe.memory import cache, total
from harness.traffic import connect
from harness.traffic.crowd import crowd
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lab, Pair
    from harness.lab.program import Program
    from harness.observe.memory import Cache
    from harness.traffic.crowd import Crowd

PORT = 8000
NOBODY = 65534
# Above this, a descriptor table as long as fs.nr_open (8 bytes an entry) is too much to ask a machine for.
LONGEST_TABLE = 1 << 21

# A server that accepts until accept() fails, waits for SIGUSR1, and accepts until it has as many as it was told.
SERVER = """
import errno, json, os, select, signal, socket, sys
family, address, port, wanted = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
listener = socket.socket(family, socket.SOCK_STREAM)
listener.bind((address, port))
listener.listen(128)
poll = select.poll()
poll.register(listener, select.POLLIN)
before = len(os.listdir("/proc/self/fd")) - 1
print(json.dumps({"listening": True}), flush=True)
accepted = []
try:
    while len(accepted) < wanted:
        accepted.append(listener.accept()[0])
    print(json.dumps({"accepted": wanted, "before": before}), flush=True)
except OSError as error:
    name = errno.errorcode[error.errno]
    # accept() looks for a descriptor before it looks at the queue: those that wait may still be on their way.
    polled = [bool(poll.poll(patience)) for patience in (30_000, 0, 0)]
    print(json.dumps({"accepted": len(accepted), "before": before, "error": name, "poll": polled}), flush=True)
    signal.sigwait([signal.SIGUSR1])
    while len(accepted) < wanted:
        accepted.append(listener.accept()[0])
    print(json.dumps({"accepted": wanted, "read": [one.recv(100).decode() for one in accepted]}), flush=True)
signal.pause()
"""

# A client that connects until socket() fails or it has as many connections as it was told, and keeps them.
CLIENT = """
import errno, json, os, signal, socket, sys
family, address, port, wanted = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
before, connected, name = len(os.listdir("/proc/self/fd")) - 1, [], None
try:
    while len(connected) < wanted:
        one = socket.socket(family, socket.SOCK_STREAM)
        connected.append(one)
        one.connect((address, port))
except OSError as error:
    name = errno.errorcode[error.errno]
print(json.dumps({"connected": len(connected), "before": before, "error": name}), flush=True)
signal.pause()
"""

# What setrlimit(RLIMIT_NOFILE) says to each of some limits, and what the last descriptor below the limit in force is.
CEILING = """
import ctypes, errno, fcntl, json, os, resource, sys
user, asked, open_last = int(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
libc = ctypes.CDLL(None, use_errno=True)
if user:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
def ask_for(limit):
    pair = (ctypes.c_ulong * 2)(limit, limit)
    failed = libc.setrlimit(resource.RLIMIT_NOFILE, pair)
    return errno.errorcode[ctypes.get_errno()] if failed else "ok"
def descriptor(number):
    try:
        return fcntl.fcntl(0, fcntl.F_DUPFD, number)
    except OSError as error:
        return errno.errorcode[error.errno]
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
status = open("/proc/self/status").read()
raises = bool(int(status.partition("CapEff:")[2].split()[0], 16) >> 24 & 1)
first_of_all = open("/proc/self/uid_map").read().split() == ["0", "0", "4294967295"]
result = {"hard": hard, "may raise": raises and first_of_all}
for limit in [hard + 1, hard] if not result["may raise"] else []:
    asked.append(limit)
result["setrlimit"] = {limit: ask_for(limit) for limit in asked}
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
result["limit"] = limit
if limit <= open_last:
    result["descriptors"] = [descriptor(limit - 1), descriptor(limit - 1)]
print(json.dumps(result))
"""

# An ordinary user, or root, who opens sockets until that fails or enough are open.
HOARDER = """
import errno, json, os, socket, sys
user, wanted = int(sys.argv[1]), int(sys.argv[2])
if user:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
opened, name = [], None
try:
    while len(opened) < wanted:
        opened.append(socket.socket())
except OSError as error:
    name = errno.errorcode[error.errno]
print(json.dumps({"opened": len(opened), "error": name}))
"""


def python(source: str, *arguments: object) -> list[str]:
    """The command line of a small Python program."""
    return [sys.executable, "-I", "-S", "-c", source, *(str(argument) for argument in arguments)]


def limited(descriptors: int, command: list[str]) -> list[str]:
    """The command line with what the document names before it: ulimit -n."""
    return ["sh", "-c", f'ulimit -S -n {descriptors} && exec "$@"', "sh", *command]


def said(program: Program, number: int) -> dict[str, Any]:
    """The n-th line of a program's output."""

    def lines() -> list[str]:
        if not program.alive():
            raise NotReady(f"{program.argv[0]} has ended: {program.output()}")
        return program.output().splitlines()

    until(lambda: len(lines()) >= number, deadline=30, what=f"line {number} of the program")
    line: dict[str, Any] = json.loads(lines()[number - 1])
    return line


def serve(pair: Pair, descriptors: int, wanted: int) -> Program:
    """Start the server, which may have so many descriptors."""
    program = python(SERVER, int(pair.server.family), pair.server.ip, PORT, wanted)
    server = pair.server.start(limited(descriptors, program))
    said(server, 1)
    return server


@pytest.mark.claim("limits.process-fds")
def test_accept_without_descriptors(claim: ClaimRun, pair: Pair) -> None:
    with claim.effect("ulimit -n 32: forty clients connect, and the server accepts as many as it can") as effect:
        server = serve(pair, 32, 40)
        clients = connect(pair.client, (pair.server.ip, PORT), 40, wait=True, deadline=30)
        for one in clients.sockets:
            one.send(b"hello")
        state = said(server, 2)
        room = 32 - state["before"]
        effect.compare("what accept() says then", state.get("error"), document="EMFILE")
        effect.compare("connections accepted", state["accepted"], document=room)
        effect.compare("the clients", dict(clients.results()), document={"connected": 40})
        until(lambda: accept_queue(pair.server, PORT).waiting == 40 - room, deadline=30, what="the others to wait")
        effect.compare(
            "connections that wait for accept()", accept_queue(pair.server, PORT).waiting, document=40 - room
        )
        effect.compare("whether poll() finds the listener readable, each time", state.get("poll"), document=[True] * 3)
        # A connection that no process has accepted belongs to no file, and inet_diag shows it without an inode.
        until(lambda: [s.recv_q for s in waiting(pair)] == [5] * (40 - room), deadline=30, what="what the others sent")
        effect.compare("states of those that wait", {s.state for s in waiting(pair)}, document={"ESTAB"})
        effect.premise("ListenOverflows", effect.delta(pair.server).TcpExt.ListenOverflows, 0)
    with claim.control("the same server, when its limit is raised") as control:
        raise_limit(server, 256)
        server.signal(signal.SIGUSR1)
        state = said(server, 3)
        control.expect("connections accepted", state["accepted"], 40)
        control.expect("what each had sent", state["read"], ["hello"] * 40)
        control.expect("connections that wait", accept_queue(pair.server, PORT).waiting, 0)
    clients.close()
    server.stop()
    with claim.control("ulimit -n 256 from the beginning") as control:
        server = serve(pair, 256, 40)
        connect(pair.client, (pair.server.ip, PORT), 40, wait=True, deadline=30)
        state = said(server, 2)
        control.expect("connections accepted, and no error", (state["accepted"], state.get("error")), (40, None))


def waiting(pair: Pair) -> list[Any]:
    """The server's connections that nobody has accepted."""
    return [s for s in sockets(pair.server, f"state established sport = :{PORT}") if s.inode == 0]


def raise_limit(program: Program, descriptors: int) -> None:
    """What prlimit(1) does to a running process."""
    import resource

    _, hard = resource.prlimit(program.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (descriptors, hard))


@pytest.mark.claim("limits.process-fds")
def test_connect_without_descriptors(claim: ClaimRun, pair: Pair) -> None:
    def client(descriptors: int) -> dict[str, Any]:
        program = python(CLIENT, int(pair.client.family), pair.server.ip, PORT, 40)
        return said(pair.client.start(limited(descriptors, program)), 1)

    serve(pair, 256, 200)
    with claim.effect("ulimit -n 32: a client connects as often as it can") as effect:
        result = client(32)
        room = 32 - result["before"]
        effect.compare("connections", result["connected"], document=room)
        effect.compare("what socket() says then", result["error"], document="EMFILE")
    with claim.control("another process of the same user, while the first has used up its limit") as control:
        result = client(32)
        control.expect("connections", (result["connected"], result["error"]), (room, "EMFILE"))
    with claim.control("ulimit -n 256") as control:
        result = client(256)
        control.expect("connections", (result["connected"], result["error"]), (40, None))


@pytest.mark.claim("limits.nr-open")
def test_nr_open(claim: ClaimRun, pair: Pair) -> None:
    ceiling = int(pair.client.run("cat", "/proc/sys/fs/nr_open").stdout)

    def ask(user: int, *limits: int) -> dict[str, Any]:
        """What setrlimit() says to each of these limits in turn; nothing is undone."""
        ran = pair.client.run(python(CEILING, user, json.dumps(limits), LONGEST_TABLE))
        answer: dict[str, Any] = json.loads(ran.stdout)
        return answer

    for name, user in users():
        with claim.effect(f"{name} asks for more descriptors than fs.nr_open") as effect:
            seen = ask(user, (1 << 64) - 1, ceiling + 1)
            effect.note("seen", seen)
            effect.compare("setrlimit(unlimited)", seen["setrlimit"][str((1 << 64) - 1)], document="EPERM")
            effect.compare(f"setrlimit({ceiling + 1})", seen["setrlimit"][str(ceiling + 1)], document="EPERM")
            effect.compare("the limit in the end", seen["limit"], document=at_most(ceiling))
        with claim.control(f"{name} asks for as many as fs.nr_open") as control:
            seen = ask(user, ceiling)
            control.note("seen", seen)
            # Who may not raise a hard limit is stopped by that of his own, and sees the same errno.
            most = ceiling if seen["may raise"] else seen["hard"]
            allowed = "ok" if most == ceiling else "EPERM"
            control.expect(f"setrlimit({ceiling})", seen["setrlimit"][str(ceiling)], allowed)
            control.expect("the limit in the end", seen["limit"], most)
            if most <= LONGEST_TABLE:
                control.expect("the last descriptor, and one more", seen["descriptors"], [most - 1, "EMFILE"])


def users() -> list[tuple[str, int]]:
    """Whom the scenario can ask as: root also as an ordinary user."""
    every = Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
    return [("root", 0), ("an ordinary user", NOBODY)] if every else [("an ordinary user", 0)]


@pytest.mark.claim("limits.nr-open")
@pytest.mark.machine_wide("fs.nr_open")
@pytest.mark.ipv4_only("no packet is sent")
def test_nr_open_lowered(claim: ClaimRun, lab: Lab) -> None:
    host = lab.host("host")

    def ask(*limits: int) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(host.run(python(CEILING, 0, json.dumps(limits), LONGEST_TABLE)).stdout)
        return answer

    with claim.control("fs.nr_open as it is, root asks for 5000 descriptors") as control:
        seen = ask(5000)
        control.expect("setrlimit(5000)", seen["setrlimit"]["5000"], "ok")
        control.expect("its last descriptor", seen["descriptors"][0], 4999)
    with claim.effect("fs.nr_open lowered to 4096, root asks for 5000 descriptors") as effect:
        lab.machine_sysctl["fs.nr_open"] = 4096
        seen = ask(5000)
        effect.compare("setrlimit(5000)", seen["setrlimit"]["5000"], document="EPERM")
        # The limit that the process was born with still stands above fs.nr_open, and is worth nothing.
        effect.premise("its own limit", seen["limit"], at_least(4097))
        effect.compare("the last descriptor below its own limit", seen["descriptors"][0], document="EMFILE")


@pytest.mark.claim("limits.file-max")
@pytest.mark.machine_wide("fs.file-max")
@pytest.mark.ipv4_only("no packet is sent")
def test_file_max(claim: ClaimRun, lab: Lab) -> None:
    host = lab.host("host")
    used = int(Path("/proc/sys/fs/file-nr").read_text().split()[0])
    # Each processor counts by itself, and the sum is looked at when they are about to be too many (fs/file_table.c).
    slack = (os.cpu_count() or 1) * max(32, 2 * (os.cpu_count() or 1)) + 32

    def hoard(user: int) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(host.run(python(HOARDER, user, 1000)).stdout)
        return answer

    with claim.control("fs.file-max as it is, an ordinary user opens 1000 sockets") as control:
        control.expect("opened", hoard(NOBODY), {"opened": 1000, "error": None})
    with claim.effect("fs.file-max 500 above what the machine has open, an ordinary user opens sockets") as effect:
        lab.machine_sysctl["fs.file-max"] = used + 500
        result = hoard(NOBODY)
        effect.compare("what socket() says in the end", result["error"], document="ENFILE")
        effect.compare("sockets opened before", result["opened"], document=between(500 - slack, 500 + slack))
        effect.note("opened", result["opened"])
    with claim.control("the same, root, who is exempt (CAP_SYS_ADMIN)") as control:
        control.expect("opened", hoard(0), {"opened": 1000, "error": None})


CONNECTIONS = 4000


@dataclass(frozen=True)
class Memory:
    """TCP sockets and bytes of slab of the whole machine, and the caches of a connection where one may read them."""

    sockets: int
    slab: int
    caches: dict[str, Cache]

    @classmethod
    def now(cls, host: Host) -> Memory:
        """What the kernel has at the moment."""
        with host.open("/proc/thread-self/net/sockstat") as table:
            (alloc,) = re.findall(r"^TCP: .* alloc (\d+)", table.read(), re.MULTILINE)
        own = "TCP" if host.family == socket.AF_INET else "TCPv6"
        caches: dict[str, Cache] = {}
        for name in (own, "sock_inode_cache", "filp", "dentry"):
            try:
                caches[name] = cache(name)
            except (Forbidden, Unsupported):
                continue
        return cls(int(alloc), total("Slab"), caches)

    def since(self, before: Memory) -> Growth:
        """What has come since, for each of the connections that have been made."""
        objects = {name: (now.objects - before.caches[name].objects) / CONNECTIONS for name, now in self.caches.items()}
        return Growth((self.slab - before.slab) / CONNECTIONS, objects)


@dataclass(frozen=True)
class Growth:
    """What a connection added: bytes of all slabs, and objects of each cache that one may read."""

    slab: float
    objects: dict[str, float]


def middle(grown: list[Growth]) -> Growth:
    """The middle of several measurements, number by number: others use the machine's memory as well."""
    objects = {name: median(each.objects[name] for each in grown) for name in grown[0].objects}
    return Growth(median(each.slab for each in grown), objects)


def grow(pair: Pair, again: int = 10) -> tuple[Growth, Crowd]:
    """Make the connections; once more if others on this machine opened or closed many of theirs meanwhile."""
    before = settled(pair.client)
    made = crowd(pair.client, pair.server, CONNECTIONS)
    after = Memory.now(pair.client)
    disturbed = abs(after.sockets - before.sockets - 2 * CONNECTIONS) > CONNECTIONS // 50
    if disturbed and again:
        end(pair, made)
        return grow(pair, again - 1)
    return after.since(before), made


def settled(host: Host) -> Memory:
    """The memory at a moment at which others are quiet, and what was released has been given back (call_rcu())."""
    seen = [Memory.now(host)]

    def steady() -> bool:
        seen.append(Memory.now(host))
        sockets, slab = [each.sockets for each in seen[-4:]], [each.slab for each in seen[-4:]]
        return len(seen) > 8 and max(sockets) - min(sockets) < 50 and max(slab) - min(slab) < CONNECTIONS * 256

    with suppress(NotReady):
        until(steady, deadline=10, what="the machine's memory to be steady")
    return seen[-1]


def end(pair: Pair, made: Crowd) -> None:
    """Reset all connections, and wait until their sockets have gone."""
    made.close()
    until(lambda: count(pair.client) == count(pair.server) == 0, deadline=60, what="the connections to end")


def charged(host: Host) -> int:
    """The bytes of memory that the receive buffers of a host's connections hold, as ss -m shows them."""
    return sum(
        int(held) for held in re.findall(r"skmem:\(r(\d+),", host.run("ss", "-tnm", "state", "established").stdout)
    )


@pytest.mark.claim("limits.memory")
def test_memory(claim: ClaimRun, pair: Pair) -> None:
    empty = Memory.now(pair.client)
    own = "TCP" if pair.client.family == socket.AF_INET else "TCPv6"
    with claim.effect(f"{CONNECTIONS} idle connections, both ends on this machine") as effect:
        rounds = [grow(pair)]
        for _ in range(2):
            end(pair, rounds[-1][1])
            rounds.append(grow(pair))
        grown, made = middle([growth for growth, _ in rounds]), rounds[-1][1]
        effect.note("a connection, both ends; the middle of three times", grown)
        effect.note("bytes an object", {name: now.each for name, now in empty.caches.items()})
        effect.compare("bytes of slab a connection", grown.slab, document=between(4096, 16384))
        if own in grown.objects:
            # Free ones that a processor keeps at hand count as used.
            effect.compare(f"{own} objects a connection", grown.objects[own], document=between(1.8, 2.2))
    with claim.control("they are idle: no data waits") as control:
        control.expect("bytes held in receive buffers", charged(pair.server), 0)
    with claim.control("they are closed") as control:
        full = Memory.now(pair.client)
        end(pair, made)
        half = CONNECTIONS * grown.slab / 2

        def back() -> int:
            released = full.slab - Memory.now(pair.client).slab
            return released if released > half else 0

        released = until(back, deadline=60, what="the memory to come back")
        control.expect("bytes of slab that came back", released, at_least(half))
    with claim.effect(f"{CONNECTIONS} connections with 1000 bytes on each that nobody reads") as effect:
        crowd(pair.client, pair.server, CONNECTIONS, unread=1000)
        until(lambda: charged(pair.server) >= 1000 * CONNECTIONS, deadline=30, what="the bytes to arrive")
        held = charged(pair.server) / CONNECTIONS
        effect.compare("bytes held in receive buffers, a connection", held, document=at_least(1000))
