"""A proxy (nginx) that keeps connections to its server, and requests that come when the server has just closed one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.observe import states_at
from harness.traffic import hold
from harness.traffic.nginx import Nginx
from harness.waiting import let_pass, until

if TYPE_CHECKING:
    from harness.lab import Host

FORWARD = 'proxy_pass http://application; proxy_http_version 1.1; proxy_set_header Connection "";'
# Of a machine that is ten times as slow, in seconds. A deadline measures nothing.
DEADLINE = 60.0


@dataclass(frozen=True)
class Keeping:
    """How long the server keeps an idle connection, in seconds, and the proxy ("60s"), which keeps so many, or none.

    `asks_again` lets the proxy send a POST once more on another connection, as it does with what is safe to repeat.
    """

    server: int = 1
    proxy: str = "60s"
    kept: int = 4
    asks_again: bool = False


class Site:
    """A proxy and its server. They listen at port 80 and 8080."""

    def __init__(self, proxy: Host, server: Host, keeping: Keeping) -> None:
        self.server = Nginx(server, "8080", keepalive=keeping.server)
        address = self.server.url.removeprefix("http://").rstrip("/")
        pool = f"keepalive {keeping.kept}; keepalive_timeout {keeping.proxy};" if keeping.kept else ""
        again = " proxy_next_upstream error non_idempotent;" if keeping.asks_again else ""
        upstream = f"upstream application {{ server {address}; {pool} }}"
        self.proxy = Nginx(proxy, location=FORWARD + again, http=upstream)

    def post(self, client: Host) -> int:
        """The status that a client gets for a POST."""
        with client.socket() as asking:
            asking.settimeout(DEADLINE)
            asking.connect((self.proxy.host.ip, self.proxy.port))
            asking.sendall(b"POST / HTTP/1.0\r\nHost: shop\r\nContent-Length: 0\r\n\r\n")
            return int(asking.recv(4096).split()[1])

    def post_after(self, client: Host, seconds: float) -> tuple[int, int]:
        """What a client gets for a POST, and for another one so many seconds later.

        The FIN of a server that closes meanwhile is on its way until then, as on a long one.
        """
        until(self._is_quiet, deadline=DEADLINE, what="the connections of before to end")
        with hold(self.proxy.host, "FA", sport=self.server.port):
            first = self.post(client)
            let_pass(seconds, what="the connection to be idle")
            return first, self.post(client)

    def _is_quiet(self) -> bool:
        """Whether no connection to the server is about to end."""
        return set(states_at(self.server.host, self.server.port)) <= {"TIME-WAIT", "ESTAB", "LISTEN"}
