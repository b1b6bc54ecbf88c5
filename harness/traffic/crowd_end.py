"""One end of a crowd: a program of its own, because it needs more descriptors than one process may have.

    python -I -S crowd_end.py '{"role": "server", "address": "10.1.0.2", "ports": [20001], "connections": 70000, …}'

harness.traffic.crowd starts one in each host. It shares its connections out among as many processes as the limit of
descriptors asks for, each of which says in one line of JSON that its share is open, and holds it until the program is
ended. Nothing but the standard library: it runs without the harness.

_socket.socket is the class beneath socket.socket: what Python adds to that costs as much as the kernel's own work on
a connection, and matters where the processor is an emulated one.
"""

from __future__ import annotations

import _socket
import contextlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

# What a process has open beside its connections: its streams, the listeners, epoll.
BESIDES = 32
# Closing with a reset: a crowd that goes leaves nothing behind that would wait for anything.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Asked:
    """What an end is to do: harness.traffic.crowd() says what each word means."""

    role: str
    family: int
    address: str
    ports: list[int]
    connections: int
    sample: int
    echo: bool
    unread: int
    descriptors: int | None


def report(**line: object) -> None:
    """One line to whoever started us; one write, because several processes share the file."""
    os.write(1, (json.dumps(line) + "\n").encode())


def raise_limit(wanted: int, most: int | None) -> int:
    """Allow this process and its children `wanted` descriptors, or `most`, or what can be had; how many it is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (most or max(wanted, hard), hard):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return limit
    return hard


def shares(connections: int, limit: int) -> list[int]:
    """How many connections each process holds: as few processes as the limit allows, all alike."""
    processes = -(-connections // (limit - BESIDES))
    return [connections // processes + (i < connections % processes) for i in range(processes)]


def listen(asked: Asked) -> list[_socket.socket]:
    """The listeners of the server's end; their connections inherit the reset on close."""
    listeners = []
    for port in asked.ports:
        listener = _socket.socket(asked.family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        listener.setblocking(False)
        listener.bind((asked.address, port))
        listener.listen(65535)
        listeners.append(listener)
    return listeners


def serve(listeners: list[_socket.socket], share: int, echo: bool) -> None:
    """Accept the share, then answer each connection with what it sends, if told to."""
    poll = select.epoll()
    for listener in listeners:
        poll.register(listener, select.EPOLLIN)
    by_number = {listener.fileno(): listener for listener in listeners}
    accepted: list[int] = []
    while len(accepted) < share:
        for number, _ in poll.poll():
            accept_some(by_number[number], accepted, share)
    for listener in listeners:
        poll.unregister(listener)
        listener.close()
    report(open=len(accepted))
    if not echo:
        hold()
    for number in accepted:
        poll.register(number, select.EPOLLIN)
    while True:
        for number, _ in poll.poll():
            request = os.read(number, 4096)
            if request:
                os.write(number, request)
            else:
                poll.unregister(number)


def accept_some(listener: _socket.socket, accepted: list[int], share: int) -> None:
    """Accept what waits, up to the share, as descriptors; another process may have been faster."""
    with contextlib.suppress(BlockingIOError):
        while len(accepted) < share:
            accepted.append(listener._accept()[0])  # type: ignore[attr-defined]  # noqa: SLF001 - typeshed does not know it


def connect(asked: Asked, share: int, first: int) -> None:
    """Open the share; then ask on a sample of it, or leave bytes on each for a server that does not read."""
    opened = []
    for i in range(first, first + share):
        connecting = _socket.socket(asked.family, socket.SOCK_STREAM)
        connecting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        connecting.connect((asked.address, asked.ports[i % len(asked.ports)]))
        opened.append(connecting)
    for connection in opened if asked.unread else ():
        connection.sendall(b"x" * asked.unread)
    report(open=len(opened))
    every = asked.sample and asked.connections // asked.sample
    asking = [(i, connection) for i, connection in enumerate(opened, start=first) if every and i % every == 0]
    report(asked=len(asking), answered=sum(ask(connection, b"connection %d" % i) for i, connection in asking))
    hold()


def ask(connection: _socket.socket, request: bytes) -> bool:
    """Whether the answer is what was asked."""
    connection.settimeout(120)
    connection.sendall(request)
    answer = b""
    while len(answer) < len(request) and (more := connection.recv(4096)):
        answer += more
    return answer == request


def hold() -> None:
    """Keep everything open until a signal ends the process."""
    while True:
        signal.pause()


def main(asked: Asked) -> None:
    """Share the connections out, and wait."""
    # An end that the other one wakes goes on when its turn comes, and not at once. A switch of processes for each
    # connection is more than half of what a crowd costs an emulated processor, which forgets its page table each time.
    with contextlib.suppress(OSError):  # who runs it as SCHED_IDLE may not leave that
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    each = shares(asked.connections, raise_limit(asked.connections + BESIDES, asked.descriptors))
    listeners = listen(asked) if asked.role == "server" else []
    report(processes=len(each))
    for number, share in enumerate(each):
        if os.fork() == 0:
            try:
                if asked.role == "server":
                    serve(listeners, share, asked.echo)
                else:
                    connect(asked, share, sum(each[:number]))
            except BaseException:
                report(error=traceback.format_exc())
            os._exit(1)
    for listener in listeners:
        listener.close()
    # A share that ends before it is told to, has failed and said why.
    os.wait()


if __name__ == "__main__":
    # Should the memory not suffice after all, it is the crowd that goes, and not who watches it.
    Path("/proc/self/oom_score_adj").write_text("500")
    main(Asked(**json.loads(sys.argv[1])))
