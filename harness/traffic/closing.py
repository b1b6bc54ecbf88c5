"""Real connections that end in order, so that the side that closes first is left with TIME-WAIT."""

from __future__ import annotations

import errno
import socket
import time
from typing import TYPE_CHECKING

from harness.errors import BadInput, NotReady
from harness.observe import sockets
from harness.traffic.connection import check_closer, endpoint, far_endpoint, wait_for_end
from harness.waiting import until

if TYPE_CHECKING:
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
) -> list[tuple[Endpoint, Endpoint]]:
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
    host, port = (client, "dport") if closer == "client" else (listener.host, "sport")
    # A port that the server has closed is free for the client's next connection, which then takes the TIME-WAIT over.
    made: dict[tuple[Endpoint, Endpoint], None] = {}
    grown = time.monotonic()
    while len(made) < n:
        before = len(made)
        connecting = _connect(client, listener, min(room, n - before), source)
        # What has been accepted is established at the client as well.
        accepted = listener.accept(len(connecting), deadline=deadline)
        first, then = (connecting, accepted) if closer == "client" else (accepted, connecting)
        for one in first:
            ended = endpoint(one), far_endpoint(one)
            made.pop(ended, None)
            made[ended] = None
        _close_in_order(first, then, deadline)
        if len(made) > before:
            grown = time.monotonic()
        elif time.monotonic() > grown + deadline:
            raise NotReady(f"connect() from {client.name} to port {listener.port} finds {before} ports, not {n}")
        if len(made) == n:
            for lost in _without_time_wait(host, f"{port} = :{listener.port}", list(made), deadline):
                del made[lost]
    return list(made)


def _connect(client: Host, listener: Listener, n: int, source: tuple[str, int] | None) -> list[socket.socket]:
    connecting = []
    address = listener.address
    with client:
        for _ in range(n):
            one = socket.socket(client.family, socket.SOCK_STREAM)
            one.setblocking(False)
            connecting.append(one)
            if source is not None:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind(source)
            error = one.connect_ex(address)
            if error not in (0, errno.EINPROGRESS):
                for each in connecting:
                    each.close()
                raise NotReady(f"connect() from {client.name} to port {listener.port}: {errno.errorcode[error]}")
    return connecting


def _close_in_order(first: list[socket.socket], then: list[socket.socket], deadline: float) -> None:
    for one in first:
        one.close()
    for one in then:
        # The end of the stream is there once the FIN is: a close() before that would be one by both sides at once.
        wait_for_end(one, deadline=deadline)
        one.close()


def _without_time_wait(
    closer: Host, to: str, made: list[tuple[Endpoint, Endpoint]], deadline: float
) -> set[tuple[Endpoint, Endpoint]]:
    """Wait until each of them is TIME-WAIT or gone; those that are gone.

    On a busy machine a FIN is repeated though it has arrived. TIME-WAIT answers it, and the RST of the other side,
    which has nothing left that it could belong to, ends TIME-WAIT at once (RFC 1337).
    """
    left: dict[tuple[Endpoint, Endpoint], str] = {}

    def all_ended() -> bool:
        seen = sockets(closer, to, family=closer.family, details=False)
        found = {(one.local, one.remote): one.state for one in seen}
        left.clear()
        left.update((one, found[one]) for one in made if one in found)
        return all(state == "TIME-WAIT" for state in left.values())

    until(all_ended, deadline=deadline, what=f"{len(made)} connections of {closer.name} to be in TIME-WAIT")
    return set(made) - set(left)
