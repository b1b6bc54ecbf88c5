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

from harness.evidence import output, seconds, ticks
from harness.laws import since
from harness.laws.ranges import at_least, at_most, between
from harness.waiting import until
from scenarios.incidents.proxies import LATER, SERVED, SHUT_OUT, build, clocks_apart, unanswered
from scenarios.recycle import RECYCLE, THERE

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Lab
    from scenarios.incidents.proxies import Site

TIMESTAMPS = "net.ipv4.tcp_timestamps"


@pytest.mark.claim("incidents.two-proxies")
@pytest.mark.slow(90 if THERE else 1)
def test_two_proxies(claim: ClaimRun, lab: Lab) -> None:
    site = build(lab)
    server, first, second = site.server, site.first, site.second
    with claim.control("before anybody has touched the server") as control:
        control.expect("what the browser gets through the first proxy", site.ask(first), SERVED)
        control.expect("through the second", site.ask(second), SERVED)

    with claim.effect("tcp_tw_recycle 1 on the server: the symptom") as effect:
        if THERE:
            server.sysctl[RECYCLE] = 1
        else:
            refusal = server.run("sysctl", "-w", f"{RECYCLE}=1", check=False)
            effect.premise("exit status of sysctl -w other than 0", refusal.returncode != 0, True)
            effect.note("sysctl -w", output(refusal.stderr))
        seen = claim.capture(server, port=site.application.port)
        gave_up, rejected = site.gave_up(second), site.rejected()
        effect.premise("what the browser gets through the first proxy", site.ask(first), SERVED)
        answers = site.ask(second)
        effect.compare("through the second", answers, document=SHUT_OUT, kernel=SHUT_OUT if THERE else SERVED)
        effect.premise("the first again", site.ask(first), SERVED)
        behind = ticks(clocks_apart(seen))
        effect.premise("ticks that the second proxy's clock is behind", behind, between(0.9 * LATER, 1.1 * LATER))
        lost = 3 if THERE else 0
        effect.compare("times that its error log says so", site.gave_up(second) - gave_up, document=3, kernel=lost)
        without_answer = unanswered(seen, site.application.port)
        effect.compare("connections without an answer to a SYN", without_answer, document=3, kernel=lost)
        rejected = site.rejected() - rejected
        what = "netstat -s: passive connections rejected because of time stamp"
        effect.compare(what, rejected, document=at_least(3), kernel=at_least(3) if THERE else 0)

    with claim.effect("what does nothing: tcp_tw_reuse 1 and tcp_fin_timeout 30 on the server") as effect:
        server.sysctl["net.ipv4.tcp_tw_reuse"] = 1
        server.sysctl["net.ipv4.tcp_fin_timeout"] = 30
        effect.premise("what the browser gets through the first proxy", site.ask(first), SERVED)
        effect.compare("through the second, as before", site.ask(second), document=answers)

    if THERE:
        remedies(claim, site)


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
        # A SYN without timestamps may be dropped as well while one is remembered for its address, which is 60 s: the
        # remedy begins by shutting out both.
        both = SHUT_OUT if since("tw-recycle-drops-bare-syns") else SERVED
        control.expect("what the browser gets at once", at_once, {"first": both, "second": both})
        until(lambda: site.ask(second) == SERVED, deadline=120, what="the second proxy to be served")
        waited = seconds(time.monotonic() - began)
        control.expect("the second is served after, in seconds", waited, at_most(60 + 10))
        control.expect("the first as well", site.ask(first), SERVED)
