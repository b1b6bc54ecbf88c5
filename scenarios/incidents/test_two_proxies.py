"""Two proxies behind one firewall address, of which only one can reach the application server.

The application server lies outside; the firewall gives both proxies its own address. Somebody has put document 003's
settings into the server's sysctl.conf, tcp_tw_recycle among them. The server closes each connection first, as one does
whose answers end with the connection, so it is there that the last timestamp of the address is remembered; and since
the proxies have been up for different times, the timestamps of one are always below it: its SYNs get no answer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds, ticks
from harness.instruments.outside_port import give_one_port
from harness.laws import since
from harness.laws.ranges import at_least, at_most, between
from harness.observe.paws import rejected
from harness.waiting import until
from scenarios.incidents.proxies import LATER, SERVED, SHUT_OUT, build, clocks_apart, unanswered
from scenarios.recycle import RECYCLE, THERE, lacks_recycle

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Lab
    from scenarios.incidents.proxies import Site

TIMESTAMPS, RFC1337 = "net.ipv4.tcp_timestamps", "net.ipv4.tcp_rfc1337"


@pytest.mark.claim("incidents.two-proxies")
@pytest.mark.slow(90 if THERE else 1)
def test_two_proxies(claim: ClaimRun, lab: Lab) -> None:
    if lacks_recycle(claim, lab.host("anybody")):
        return
    site = build(lab)
    server, first, second = site.server, site.first, site.second
    with claim.control("before anybody has touched the server") as control:
        control.expect("what the browser gets through the first proxy", site.ask(first), SERVED)
        control.expect("through the second", site.ask(second), SERVED)

    with claim.effect("tcp_tw_recycle 1 on the server: the symptom") as effect:
        server.sysctl[RECYCLE] = 1
        seen = claim.capture(server, port=site.application.port)
        gave_up, rejected = site.gave_up(second), site.rejected()
        effect.compare("what the browser gets through the first proxy", site.ask(first), document=SERVED)
        effect.compare("through the second", site.ask(second), document=SHUT_OUT)
        effect.compare("the first again", site.ask(first), document=SERVED)
        behind = ticks(clocks_apart(seen))
        effect.premise("ticks that the second proxy's clock is behind", behind, between(0.9 * LATER, 1.1 * LATER))
        effect.compare("times that its error log says so", site.gave_up(second) - gave_up, document=3)
        without_answer = unanswered(seen, site.application.port)
        effect.compare("connections without an answer to a SYN", without_answer, document=3)
        rejected = site.rejected() - rejected
        what = "netstat -s: passive connections rejected because of time stamp"
        effect.compare(what, rejected, document=at_least(3))

    with claim.effect("what does nothing: tcp_tw_reuse 1 and tcp_fin_timeout 30 on the server") as effect:
        server.sysctl["net.ipv4.tcp_tw_reuse"] = 1
        server.sysctl["net.ipv4.tcp_fin_timeout"] = 30
        effect.compare("what the browser gets through the first proxy", site.ask(first), document=SERVED)
        effect.compare("through the second, as before", site.ask(second), document=SHUT_OUT)
    remedies(claim, site)


def remedies(claim: ClaimRun, site: Site) -> None:
    """The cause removed, and what the remedies do."""
    server, first, second = site.server, site.first, site.second
    with claim.control("tcp_tw_recycle 0") as control:
        server.sysctl[RECYCLE] = 0
        control.expect("what the browser gets through the second proxy, at once", site.ask(second), SERVED)
    with claim.effect("tcp_tw_recycle 1 again") as effect:
        server.sysctl[RECYCLE] = 1
        effect.compare("what the browser gets through the first proxy", site.ask(first), document=SERVED)
        effect.compare("through the second", site.ask(second), document=SHUT_OUT)
    with claim.control("tcp_timestamps 0 on the server") as control:
        server.sysctl[TIMESTAMPS] = 0
        began = time.monotonic()
        at_once = {"first": site.ask(first), "second": site.ask(second)}
        # A SYN without timestamps may be dropped as well while one is remembered for its address, which is 60 s: the
        # remedy begins by shutting out both.
        both = SHUT_OUT if since("tw-recycle-drops-bare-syns") else SERVED
        control.expect("what the browser gets at once", at_once, {"first": both, "second": both})
        until(lambda: site.ask(second) == SERVED, deadline=120, what="the second proxy to be served")
        waited = seconds(time.monotonic() - began)
        control.expect("the second is served after, in seconds", waited, at_most(60 + 10))
        control.expect("the first as well", site.ask(first), SERVED)


@pytest.mark.slow(8)
@pytest.mark.claim("timestamps.nat-rfc1337-shuts-out")
def test_two_proxies_through_one_port(claim: ClaimRun, lab: Lab) -> None:
    """What the proxies meet on any kernel, where the firewall gives the second the port that the first has had."""
    site = build(lab)
    server, first, second = site.server, site.first, site.second
    server.sysctl[RFC1337] = 1
    with claim.control("tcp_rfc1337 1 at the server, and each proxy has a port of its own outside") as control:
        control.expect("what the browser gets through the first proxy", site.ask(first), SERVED)
        control.expect("through the second", site.ask(second), SERVED)
    give_one_port(site.firewall)
    with claim.control("tcp_rfc1337 0, and both have one port") as control:
        server.sysctl[RFC1337] = 0
        control.expect("what the browser gets through the first proxy", site.ask(first), SERVED)
        control.expect("through the second", site.ask(second), SERVED)
    with claim.effect("tcp_rfc1337 1, and both have one port") as effect:
        server.sysctl[RFC1337] = 1
        effect.compare("what the browser gets through the first proxy", site.ask(first), document=SERVED)
        effect.compare("through the second", site.ask(second), document=SHUT_OUT)
        refused = rejected(effect.delta(server))
        effect.compare("SYNs refused for their timestamp", refused, document=at_least(3))
