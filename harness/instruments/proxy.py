"""A proxy (nginx) that keeps connections to its server, and requests that come when the server has just closed one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.observe import ends_at
from harness.traffic import hold
from harness.traffic.nginx import Nginx
from harness.waiting import let_pass, until

if TYPE_CHECKING:
    from harness.lab import Host

FORWARD = 'proxy_pass http://application; proxy_http_version 1.1; proxy_set_header Connection "";'
# Of a machine that is ten times as slow, in seconds. A deadline measures nothing.
DEADLINE = 60.0


class Proxy:
    """A proxy at port 80 of a host, before a server. It keeps `kept` idle connections for so long ("60s"), or none.

    `more` are further directives of nginx, for what is passed on.
    """

    def __init__(self, host: Host, server: Nginx, *, keeps: str = "60s", kept: int = 4, more: str = "") -> None:
        self.server = server
        address = server.url.removeprefix("http://").rstrip("/")
        pool = f"keepalive {kept}; keepalive_timeout {keeps};" if kept else ""
        self.nginx = Nginx(host, location=FORWARD + more, http=f"upstream application {{ server {address}; {pool} }}")
        # Whether it answers was asked through it: other workers have no connection left of that, which would end soon.
        self.nginx.reload()

    def ask(self, client: Host, method: str = "POST") -> int:
        """The status that a client gets for a request."""
        with client.socket() as asking:
            asking.settimeout(DEADLINE)
            asking.connect((self.nginx.host.ip, self.nginx.port))
            asking.sendall(f"{method} / HTTP/1.0\r\nHost: shop\r\nContent-Length: 0\r\n\r\n".encode())
            return int(asking.recv(4096).split()[1])

    def ask_late(self, client: Host, seconds: float, method: str = "POST") -> tuple[int, int]:
        """What a client gets for a POST, and for a request so many seconds later.

        If the server closes meanwhile, its FIN is on its way until then, as on a long one.
        """
        until(self._is_quiet, deadline=DEADLINE, what="the connections of before to end")
        with hold(self.nginx.host, "FA", sport=self.server.port):
            first = self.ask(client)
            let_pass(seconds, what="the connection to be idle")
            if self.server.keepalive < seconds:
                # Put off, nginx has a request that is there already answered, and ends what is due after that.
                until(self.is_closed, deadline=DEADLINE, what="the server to close the connection")
            return first, self.ask(client, method)

    def log(self) -> str:
        """What its error log says."""
        return (self.nginx.directory / "error.log").read_text()

    def is_closed(self) -> bool:
        """Whether the server has no connection of the proxy's any more that it has not closed."""
        return "ESTAB" not in self._states()

    def _is_quiet(self) -> bool:
        """Whether no connection to the server is about to end, whose FIN would be held as well."""
        return self._states() <= {"ESTAB", "TIME-WAIT"}

    def _states(self) -> set[str]:
        ends = ends_at(self.server.host, self.server.port)
        return {end.state for end in ends if end.remote[0] == self.nginx.host.ip}
