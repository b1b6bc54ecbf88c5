"""Two proxies behind one firewall address, of which only one can reach the application server.

The application server lies outside; the firewall gives both proxies its own address. Somebody has put document 003's
settings into the server's sysctl.conf, tcp_tw_recycle among them. The server closes each connection first, as one does
whose answers end with the connection, so it is there that the last timestamp of the address is remembered; and since
the proxies have been up for different times, the timestamps of one are always below it: its SYNs get no answer.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from harness.laws.kernel import running
from harness.laws.ranges import at_least, at_most, between
from harness.laws.serial import distance
from harness.traffic.clock_shift import ClockShift
from harness.traffic.nginx import Nginx
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.phases import Phase
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lab
    from harness.observe import Capture

RECYCLE = "net.ipv4.tcp_tw_recycle"
TIMESTAMPS = "net.ipv4.tcp_timestamps"
# 4396e46187ca "tcp: remove tcp_tw_recycle"
OLD = running() < "4.12"
# How long the second proxy has been up less than the first, in ticks of the timestamp clock.
LATER = 10_000_000
PATIENCE = "1500ms"  # of a proxy, for connect(): two SYNs
SERVED, SHUT_OUT = [200] * 3, [504] * 3
# Of an answer without its length the end is the end of the connection, which the server therefore closes first.
WITHOUT_LENGTH = 'default_type text/html; ssi on; return 200 "ok";'


@dataclass
class Site:
    """A browser and two proxies behind the firewall; the application server in front of it."""

    browser: Host
    server: Host
    first: Nginx
    second: Nginx
    application: Nginx

    def ask(self, proxy: Nginx) -> list[int]:
        """What the browser gets for three requests: the status of each."""
        return [self._status(proxy) for _ in range(3)]

    def _status(self, proxy: Nginx) -> int:
        with self.browser.socket() as asking:
            asking.settimeout(60)
            asking.connect((proxy.host.ip, proxy.port))
            asking.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
            answer = b""
            while not whole(answer):
                more = asking.recv(4096)
                assert more, f"an answer that is cut off: {answer!r}"
                answer += more
        return int(answer.split()[1])

    def gave_up(self, proxy: Nginx) -> int:
        """How often a proxy has written to its log that the server does not answer its SYNs."""
        return (proxy.directory / "error.log").read_text().count("timed out) while connecting to upstream")

    def rejected(self) -> int:
        """What `netstat -s | grep timestamp`, or `time stamp`, says on the server of SYNs that it dropped."""
        said = self.server.run("netstat", "-s").stdout
        found = re.search(r"(\d+) passive connections rejected because of time ?stamp", said)
        return int(found[1]) if found else 0


def whole(answer: bytes) -> bool:
    """Whether an answer is there to its end: the browser closes first, so that no proxy keeps TIME-WAITs of its own."""
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    return len(body) == int(length[1]) if length else body.endswith(b"0\r\n\r\n")


def build(lab: Lab) -> Site:
    """browser, nginx1, nginx2 --- switch --- firewall (masquerade) --- server; nginx2 was started later."""
    browser, *machines = lab.hosts("browser", "nginx1", "nginx2")
    firewall, server = lab.hosts("firewall", "server")
    inside, outside = lab.switch(browser, *machines, firewall), lab.link(firewall, server)
    lab.gateway(firewall, inside=inside, outside=outside)
    lab.ready()
    if running() >= "4.10":  # 95a22caee396 "tcp: randomize tcp timestamp offsets for each connection"; 2 says not to
        for machine in machines:
            machine.sysctl[TIMESTAMPS] = 2
    ClockShift(machines[1], -LATER)
    application = Nginx(server, "8080", location=WITHOUT_LENGTH)
    forward = f"proxy_pass {application.url}; proxy_connect_timeout {PATIENCE};"
    first, second = (Nginx(machine, "80", location=forward) for machine in machines)
    return Site(browser, server, first, second, application)


def unanswered(seen: Capture, port: int) -> int:
    """Connections of which the server saw a SYN and answered none."""
    asked = {s.sport for s in seen.segments(flags="S", dport=port)}
    return len(asked - {s.dport for s in seen.segments(flags="SA", sport=port)})


def apart(seen: Capture) -> int:
    """How far apart the clocks of the first SYN and of the one with the lowest timestamp are, in ticks."""
    first, *others = [s.tsval or 0 for s in seen.segments(flags="S")]
    return max(distance(other, first) for other in others)


@pytest.mark.claim("incidents.two-proxies")
@pytest.mark.slow(90 if OLD else 1)
def test_two_proxies(claim: ClaimRun, lab: Lab) -> None:
    site = build(lab)
    server, first, second = site.server, site.first, site.second
    with claim.control("before anybody has touched the server") as control:
        control.expect("what the browser gets through the first proxy", site.ask(first), SERVED)
        control.expect("through the second", site.ask(second), SERVED)

    with claim.effect("tcp_tw_recycle 1 on the server: the symptom") as effect:
        switch_on(effect, server)
        seen = claim.capture(server, port=site.application.port)
        given_up, rejected = site.gave_up(second), site.rejected()
        effect.premise("what the browser gets through the first proxy", site.ask(first), SERVED)
        answers = site.ask(second)
        effect.compare("through the second", answers, document=SHUT_OUT, kernel=SHUT_OUT if OLD else SERVED)
        effect.premise("the first again", site.ask(first), SERVED)
        effect.premise("ticks that the second proxy's clock is behind", apart(seen), between(0.9 * LATER, 1.1 * LATER))
        lost = 3 if OLD else 0
        effect.compare("times that its error log says so", site.gave_up(second) - given_up, document=3, kernel=lost)
        effect.compare("connections without an answer to a SYN", unanswered(seen, 8080), document=3, kernel=lost)
        rejected = site.rejected() - rejected
        effect.compare(
            "netstat -s: passive connections rejected because of time stamp",
            rejected,
            document=at_least(3),
            kernel=at_least(3) if OLD else 0,
        )

    with claim.effect("what does nothing: tcp_tw_reuse 1 and tcp_fin_timeout 30 on the server") as effect:
        server.sysctl["net.ipv4.tcp_tw_reuse"] = 1
        server.sysctl["net.ipv4.tcp_fin_timeout"] = 30
        effect.premise("what the browser gets through the first proxy", site.ask(first), SERVED)
        effect.compare("through the second, as before", site.ask(second), document=answers)

    if OLD:
        remedies(claim, site)


def switch_on(effect: Phase, server: Host) -> None:
    """What the document tells the operator to set, where there is such a knob."""
    if OLD:
        server.sysctl[RECYCLE] = 1
    else:
        ran = server.run("sysctl", "-w", f"{RECYCLE}=1", check=False)
        effect.premise("exit status of sysctl -w other than 0", ran.returncode != 0, True)
        effect.note("sysctl -w", ran.stderr)


def remedies(claim: ClaimRun, site: Site) -> None:
    """On the kernels that have the knob: the cause removed, and the remedies' effect."""
    server, first, second = site.server, site.first, site.second
    with claim.control("tcp_tw_recycle 0") as control:
        server.sysctl[RECYCLE] = 0
        control.expect("what the browser gets through the second proxy, at once", site.ask(second), SERVED)
    with claim.effect("tcp_tw_recycle 1 again") as effect:
        server.sysctl[RECYCLE] = 1
        effect.premise("what the browser gets through the first proxy", site.ask(first), SERVED)
        effect.compare("through the second", site.ask(second), document=SHUT_OUT)
    with claim.control("tcp_timestamps 0 on the server") as control:
        server.sysctl[TIMESTAMPS] = 0
        began = time.monotonic()
        at_once = {"first": site.ask(first), "second": site.ask(second)}
        # Since 3.17 a SYN without timestamps is dropped as well while one is remembered for its address
        # (a26552afe89438eefbe097512b3187f2c7e929fd), which is 60 s: the remedy begins by shutting out both.
        both = SHUT_OUT if running() >= "3.17" else SERVED
        control.expect("what the browser gets at once", at_once, {"first": both, "second": both})
        until(lambda: site.ask(second) == SERVED, deadline=120, what="the second proxy to be served")
        waited = time.monotonic() - began
        control.expect("the second is served after, in seconds", waited, at_most(60 + 10))
        control.expect("the first as well", site.ask(first), SERVED)
