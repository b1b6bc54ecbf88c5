"""Real connections that end: in order, so that the side that closes first is left with TIME-WAIT, or with RST."""

from __future__ import annotations

import _socket
import errno
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from harness.errors import BadInput, NotReady
from harness.lab.host import family_of
from harness.observe.sockets import FourTuple, states_of
from harness.traffic.connection import abort, check_closer
from harness.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.lab import Host
    from harness.observe.sockets import Endpoint
    from harness.traffic.listener import Listener

# No more at a time than a listener has room for, and than somaxconn allowed before 5.4.
AT_A_TIME = 100


def leave_time_wait(
    client: Host,
    listener: Listener,
    n: int = 1,
    *,
    closer: str = "client",
    source: tuple[str, int] | None = None,
    deadline: float = 10.0,
) -> list[FourTuple]:
    """Let n real connections end, closed by the closer first and then, when it has seen that, by the other side.

    `closer` is "client" or "server"; `source` is the address and port that the clients bind to (port 0: any). The
    listener must be one from which nobody else accepts. Returns, when all are TIME-WAIT in the closer's kernel, the
    (local, remote) endpoints of each as the closer has them, in the order in which they were made.

    NotReady if a connect() fails, or if it takes more than `deadline` seconds to connect and close a hundred, or to
    find all of them in TIME-WAIT; or if the client's kernel takes no other ports: of those that the server closes first
    it hardly ever takes more than the half of its range that it tries first.
    """
    check_closer(closer)
    if source is not None and source[1] and n > 1:
        raise BadInput(f"connections from port {source[1]} to one listener leave one TIME-WAIT, not {n}")
    room = max(1, min(listener.backlog, AT_A_TIME))
    # A port that the server has closed is free for the client's next connection, which then takes the TIME-WAIT over.
    ended: dict[FourTuple, None] = {}
    grown = time.monotonic()
    while len(ended) < n:
        before = len(ended)
        connecting = _connect(client, listener, min(room, n - before), source)
        # What has been accepted is established at the client as well.
        accepted = _accept(listener, len(connecting), deadline)
        address = listener.address
        if closer == "client":
            made = [(_endpoint(end.getsockname()), address) for end in connecting]
            first, then = connecting, [end for end, _ in accepted]
        else:
            made = [(address, _endpoint(far)) for _, far in accepted]
            first, then = [end for end, _ in accepted], connecting
        for ends in made:
            ended.pop(ends, None)
            ended[ends] = None
        _close_in_order(first, then, deadline)
        if len(ended) > before:
            grown = time.monotonic()
        elif time.monotonic() > grown + deadline:
            raise NotReady(f"connect() from {client.name} to port {listener.port} finds {before} ports, not {n}")
        if len(ended) == n:
            for lost in _without_time_wait(client if closer == "client" else listener.host, list(ended), deadline):
                del ended[lost]
    return list(ended)


def abort_connections(client: Host, listener: Listener, n: int) -> None:
    """Make n connections, a hundred at a time, and end each with RST, which leaves no TIME-WAIT.

    The listener must be one from which nobody else accepts. NotReady if connect() fails at once, or if what is
    connecting, a hundred or as many as its backlog if that is less, is not accepted within PATIENCE seconds.
    """
    room = max(1, min(listener.backlog, AT_A_TIME))
    for made in range(0, n, room):
        connecting = _connect(client, listener, min(room, n - made), None)
        try:
            accepted = _accept(listener, len(connecting), PATIENCE)
        finally:
            for end in connecting:
                abort(end)
        for end, _ in accepted:
            end.close()


@contextmanager
def churn(client: Host, listener: Listener) -> Iterator[None]:
    """Meanwhile a host makes connections, ten at a time, and ends each with RST, some thousand a second.

    The listener must be one from which nobody else accepts.
    """
    over = threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            abort_connections(client, listener, 10)

    with ThreadPoolExecutor(1, thread_name_prefix="churn") as thread:
        going = thread.submit(come_and_go)
        try:
            yield
        finally:
            over.set()
            going.result()


# _socket.socket is the class beneath socket.socket: what Python adds to that costs as much as the kernel's own work on
# a connection, and matters where the processor is an emulated one.


def _connect(client: Host, listener: Listener, n: int, source: tuple[str, int] | None) -> list[_socket.socket]:
    connecting: list[_socket.socket] = []
    address = listener.address
    family = family_of(address[0])
    with client:
        for _ in range(n):
            end = _socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            connecting.append(end)
            if source is not None:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                end.bind(source)
            error = end.connect_ex(address)
            if error not in (0, errno.EINPROGRESS):
                for each in connecting:
                    each.close()
                raise NotReady(f"connect() from {client.name} to port {listener.port}: {errno.errorcode[error]}")
    return connecting


def _accept(listener: Listener, n: int, deadline: float) -> list[tuple[_socket.socket, tuple[str, int]]]:
    """Accept so many connections, each with the address that it comes from; no list of the listener's has them."""
    accepted: list[tuple[_socket.socket, tuple[str, int]]] = []
    family = listener.socket.family

    def all_accepted() -> bool:
        with suppress(BlockingIOError):
            while len(accepted) < n:
                number, far = listener.socket._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - see above
                # Told what it is, it need not ask.
                accepted.append((_socket.socket(family, socket.SOCK_STREAM, 0, number), far))
        return len(accepted) == n

    what = f"{n} connections accepted on {listener.host.name}:{listener.port}"
    until(all_accepted, deadline=deadline, what=what)
    return accepted


def _endpoint(name: tuple[str, int]) -> Endpoint:
    return name[0], name[1]


def _close_in_order(first: list[_socket.socket], then: list[_socket.socket], deadline: float) -> None:
    for end in first:
        end.close()
    for end in then:
        # The end of the stream is there once the FIN is: a close() before that would be one by both sides at once.
        if not _has_ended(end):
            until(partial(_has_ended, end), deadline=deadline, what="the FIN of the side that closes first")
        end.close()


def _has_ended(end: _socket.socket) -> bool:
    try:
        return not end.recv(1, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def _without_time_wait(closer: Host, ended: list[FourTuple], deadline: float) -> set[FourTuple]:
    """Wait until each of them is TIME-WAIT or gone; those that are gone.

    On a busy machine a FIN is repeated though it has arrived. TIME-WAIT answers it, and the RST of the other side,
    which has nothing left that it could belong to, ends TIME-WAIT at once (RFC 1337).
    """
    left: dict[FourTuple, str] = {}

    def all_ended() -> bool:
        states = states_of(closer, ended)
        left.clear()
        left.update(states)
        return all(state == "TIME-WAIT" for state in states.values())

    until(all_ended, deadline=deadline, what=f"{len(ended)} connections of {closer.name} to be in TIME-WAIT")
    return set(ended) - set(left)
