"""Both ends of an accepted connection, and what one end knows: what it can read, whether the other has closed."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import sys
import termios
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import BadInput, NotReady
from harness.traffic.connector import CONNECTED, OPEN, connect
from harness.waiting import PATIENCE, until

if TYPE_CHECKING:
    import _socket

    from harness.lab import Host
    from harness.observe.sockets import Endpoint, FourTuple
    from harness.traffic.listener import Listener

QUESTION, ANSWER = b"question", b"answer!!"
MOST = 65536
LINGER_NOT_AT_ALL = struct.pack("ii", 1, 0)


class Connection(NamedTuple):
    """Both ends of an accepted connection. Neither socket blocks; the lab closes them."""

    client: socket.socket
    server: socket.socket

    @property
    def port(self) -> int:
        """The client's port, which a connection to another listener may have as well."""
        return endpoint(self.client)[1]

    @property
    def ends(self) -> FourTuple:
        """The client's address and port and the server's, which no other connection has at that time."""
        return endpoint(self.client), far_endpoint(self.client)

    def by_closer(self, closer: str) -> tuple[socket.socket, socket.socket]:
        """The ends in the order in which they close, if `closer` ("client" or "server") is the first."""
        check_closer(closer)
        return (self.client, self.server) if closer == "client" else (self.server, self.client)

    def say(self, words: bytes, *, deadline: float = PATIENCE) -> None:
        """The client sends words, and the server's application reads them; NotReady if it reads something else.

        The words must fit into the send buffer.
        """
        _carry(self.client, self.server, words, deadline)

    def answer(self, words: bytes, *, deadline: float = PATIENCE) -> None:
        """The server sends words, and the client's application reads them, as with say()."""
        _carry(self.server, self.client, words, deadline)

    def talk(self, rounds: int = 1) -> Connection:
        """The client asks QUESTION and the server says ANSWER, so many times; returns the connection."""
        for _ in range(rounds):
            self.say(QUESTION)
            self.answer(ANSWER)
        return self

    def fate(self) -> str:
        """What the applications learn when they go on talking: the name of an error, or "open" if there is none."""
        try:
            self.talk()
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return OPEN

    def close(self, closer: str = "client", *, deadline: float = PATIENCE) -> None:
        """One side closes, and then, when its FIN has arrived, the other: not both at once.

        What arrived before must have been read.
        """
        first, then = self.by_closer(closer)
        first.close()
        wait_for_end(then, deadline=deadline)
        then.close()


def establish(
    client: Host, listener: Listener, *, source: Endpoint | None = None, deadline: float = PATIENCE
) -> Connection:
    """Connect to a listener, and accept there, unless a thread of the listener's does that already.

    `source` binds the client to an address and port, with SO_REUSEADDR. Nothing else may wait in the accept queue, and
    nobody else may connect meanwhile. NotReady, with the error of connect(), if that does not succeed, or if it takes
    more than `deadline` seconds.
    """
    before = len(listener.accepted)
    (attempt,) = connect(client, listener, source=source, wait=True, deadline=deadline)
    if attempt.result != CONNECTED:
        raise NotReady(f"connect() from {client.name} to port {listener.port}: {attempt.result}")
    if not listener.accepts:
        return Connection(attempt.socket, listener.accept(deadline=deadline)[0])
    until(lambda: len(listener.accepted) > before, deadline=deadline, what=f"port {listener.port} to accept")
    return Connection(attempt.socket, listener.accepted[before])


def check_closer(closer: str) -> None:
    """BadInput if that is not a side of a connection."""
    if closer not in ("client", "server"):
        raise BadInput(f'"client" or "server" closes first, not {closer!r}')


def endpoint(end: socket.socket) -> Endpoint:
    """The local address and port of a socket."""
    return _address_and_port(end.getsockname())


def far_endpoint(end: socket.socket) -> Endpoint:
    """The address and port that a socket is connected to."""
    return _address_and_port(end.getpeername())


def peek(end: socket.socket, size: int = MOST) -> bytes:
    """What can be read now, left where it is; nothing also if the other side has closed."""
    try:
        return end.recv(size, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


def read(end: socket.socket, size: int = MOST) -> bytes:
    """Take what can be read now; nothing also if the other side has closed."""
    try:
        return end.recv(size)
    except BlockingIOError:
        return b""


def take(end: socket.socket, size: int, *, deadline: float = PATIENCE) -> bytes:
    """Take so many bytes when they have come; NotReady after `deadline` seconds."""
    taken = b""

    def all_there() -> bool:
        nonlocal taken
        taken += read(end, size - len(taken))
        return len(taken) == size

    until(all_there, deadline=deadline, what=f"{size} bytes to read")
    return taken


def has_ended(end: socket.socket) -> bool:
    """Whether the other side's FIN has arrived, and all before it was read."""
    try:
        return not end.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False


def wait_for_end(end: socket.socket, *, deadline: float = PATIENCE) -> None:
    """Wait until the other side's FIN has arrived; NotReady after `deadline` seconds."""
    until(lambda: has_ended(end), deadline=deadline, what="the FIN of the side that closes first")


def unacknowledged(end: socket.socket) -> int:
    """How many bytes an end has sent that are not acknowledged (SIOCOUTQ)."""
    buffer = bytearray(4)
    fcntl.ioctl(end, termios.TIOCOUTQ, buffer)
    return int.from_bytes(buffer, sys.byteorder)


def abort(end: _socket.socket) -> None:
    """Close an end with RST in place of FIN."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT_AT_ALL)
    end.close()


def error_of(end: socket.socket) -> str:
    """The error that waits for the application, by its name, or "no error"; the kernel says it once."""
    number = end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return errno.errorcode[number] if number else "no error"


def _carry(speaker: socket.socket, hearer: socket.socket, words: bytes, deadline: float) -> None:
    speaker.sendall(words)
    heard = take(hearer, len(words), deadline=deadline)
    if heard != words:
        raise NotReady(f"{words!r} was sent to port {endpoint(hearer)[1]}, and {heard!r} was read")


def _address_and_port(name: tuple[str, int]) -> Endpoint:
    return name[0], name[1]
