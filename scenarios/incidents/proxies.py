"""The site of the incident with two proxies: a browser and two nginx behind a firewall, the application outside.

    browser, nginx1, nginx2 --- switch --- firewall (masquerade) --- server

Both proxies have the firewall's address outside; nginx2 was started later, so that its timestamp clock is behind.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.instruments.shared_address import shift_clock
from harness.laws.serial import distance
from harness.observe import netstat, states_at
from harness.observe.conntrack import drop_expired
from harness.traffic.nginx import Nginx
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Host, Lab
    from harness.observe import Capture

# How long the second proxy has been up less than the first, in ticks of the timestamp clock.
LATER = 10_000_000
# Of a proxy, for connect(): two SYNs.
PATIENCE = "1500ms"
SERVED, SHUT_OUT = [200] * 3, [504] * 3
# Of an answer without its length the end is the end of the connection, which the server therefore closes first.
WITHOUT_LENGTH = 'default_type text/html; ssi on; return 200 "ok";'
# How long the browser waits for an answer, in seconds.
BROWSERS_PATIENCE = 60.0


@dataclass(frozen=True)
class Site:
    """A browser and two proxies behind the firewall; the application server in front of it."""

    browser: Host
    firewall: Host
    server: Host
    first: Nginx
    second: Nginx
    application: Nginx

    def ask(self, proxy: Nginx) -> list[int]:
        """What the browser gets for three requests: the status of each; one begins when the last has ended."""
        return [self._status(proxy) for _ in range(3)]

    def _status(self, proxy: Nginx) -> int:
        until(self._is_quiet, what="the connections of before to end")
        drop_expired(self.firewall)
        with self.browser.socket() as asking:
            asking.settimeout(BROWSERS_PATIENCE)
            asking.connect((proxy.host.ip, proxy.port))
            asking.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
            answer = b""
            while not _whole(answer):
                more = asking.recv(4096)
                assert more, f"an answer that is cut off: {answer!r}"
                answer += more
        return int(answer.split()[1])

    def _is_quiet(self) -> bool:
        """Whether no connection to the application goes on, or is about to end."""
        return set(states_at(self.server, self.application.port)) <= {"TIME-WAIT"}

    def gave_up(self, proxy: Nginx) -> int:
        """How often a proxy has written to its log that the server does not answer its SYNs."""
        return (proxy.directory / "error.log").read_text().count("timed out) while connecting to upstream")

    def rejected(self) -> int:
        """What `netstat -s` says on the server of SYNs that it dropped for their timestamps."""
        return netstat.statistic(self.server, netstat.REJECTED_BY_TIMESTAMP)


def build(lab: Lab) -> Site:
    """The site, where nobody has touched the server yet."""
    browser, *machines = lab.hosts("browser", "nginx1", "nginx2")
    firewall, server = lab.hosts("firewall", "server")
    inside, outside = lab.switch(browser, *machines, firewall), lab.link(firewall, server)
    lab.gateway(firewall, inside=inside, outside=outside)
    lab.ready()
    for machine, behind in zip(machines, (0, LATER), strict=True):
        shift_clock(machine, -behind)
    application = Nginx(server, "8080", location=WITHOUT_LENGTH)
    forward = f"proxy_pass {application.url}; proxy_connect_timeout {PATIENCE};"
    first, second = (Nginx(machine, "80", location=forward) for machine in machines)
    return Site(browser, firewall, server, first, second, application)


def unanswered(seen: Capture, port: int) -> int:
    """Connections of which the server saw a SYN and answered none."""
    asked = {syn.sport for syn in seen.segments(flags="S", dport=port)}
    return len(asked - {answer.dport for answer in seen.segments(flags="SA", sport=port)})


def clocks_apart(seen: Capture) -> int:
    """How far apart the clocks of the first SYN and of the one with the lowest timestamp are, in ticks."""
    first, *others = [syn.tsval or 0 for syn in seen.segments(flags="S")]
    return max(distance(other, first) for other in others)


def _whole(answer: bytes) -> bool:
    """Whether an answer is there to its end: the browser closes first, so that no proxy keeps TIME-WAITs of its own."""
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    return len(body) == int(length[1]) if length else body.endswith(b"0\r\n\r\n")
