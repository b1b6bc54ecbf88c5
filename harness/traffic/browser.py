"""A client of nginx that asks as a browser does: on one connection, for as long as the server keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import ProgramFailed
from harness.observe import sockets
from harness.waiting import until

if TYPE_CHECKING:
    import socket

    from harness.lab import Host
    from harness.traffic.nginx import Nginx

REQUEST = b"GET / HTTP/1.1\r\nHost: server\r\n\r\n"
END_OF_ANSWER = b"\r\n\r\nok"


class Browser:
    """A browser on a host. `connections` is how many its requests took; `patience`, in seconds, is for each answer.

    ProgramFailed if nginx says something else than its answer; TimeoutError, ConnectionResetError … as the socket has
    them.
    """

    def __init__(self, host: Host, nginx: Nginx, *, patience: float = 20.0) -> None:
        self.host, self.nginx, self.patience = host, nginx, patience
        self.connections = 0
        self._connection: socket.socket | None = None

    def ask(self, times: int = 1) -> None:
        """Make so many requests, one after another, each when the last has been answered."""
        for _ in range(times):
            connection = self._connection or self._connect()
            connection.sendall(REQUEST)
            if b"Connection: close" in self._read_answer(connection):
                self.wait_for_end()

    def settle(self) -> None:
        """Wait until the server's kernel knows that its answers have arrived."""
        established = f"state established sport = :{self.nginx.port}"
        until(
            lambda: all(end.send_q == 0 for end in sockets(self.nginx.host, established)),
            what="the acknowledgement of the answer",
        )

    def wait_for_end(self) -> None:
        """Wait until nginx closes the connection, and close it as well."""
        assert self._connection is not None
        if said := self._connection.recv(4096):
            raise ProgramFailed(f"nginx on {self.nginx.host.name} said {said!r} in place of closing")
        self.close()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> socket.socket:
        self._connection = self.host.socket()
        self.host.lab.on_close(self._connection.close)
        self._connection.settimeout(self.patience)
        self._connection.connect((self.nginx.host.ip, self.nginx.port))
        self.connections += 1
        return self._connection

    def _read_answer(self, connection: socket.socket) -> bytes:
        answer = b""
        while not answer.endswith(END_OF_ANSWER):
            received = connection.recv(4096)
            if not received:
                raise ProgramFailed(f"nginx on {self.nginx.host.name} closed within an answer: {answer!r}")
            answer += received
        return answer
