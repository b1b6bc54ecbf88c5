"""A proxy's clients get 502 now and then: its server keeps idle connections for a shorter time than the proxy does.

The server closes what has been idle for a second. The proxy, which keeps it for a minute, learns of that when the FIN
arrives; what it has sent until then meets a socket that nobody holds any more, and is answered with RST. The FIN is
held on its way here, so that each request comes into that gap, which is else a round trip long. nginx asks again on
another connection where that is safe, so a GET is served and a POST is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.instruments.proxy import Proxy
from harness.laws.ranges import at_least
from harness.observe import states_at
from harness.traffic.nginx import Nginx

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import Lan

SHORT, LONG = 1, 65  # seconds
LATE = 1.5 * SHORT
RESET = "recv() failed (104: Connection reset by peer) while reading response header from upstream"
USELESS = {"tcp_fin_timeout": 5, "tcp_tw_reuse": 1, "tcp_keepalive_time": 1, "tcp_orphan_retries": 1}


@pytest.mark.slow(12)
@pytest.mark.claim("incidents.keep-alive-too-short")
def test_keep_alive_too_short(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    client, machine, patient, *hosts = lan(9).hosts
    server = Nginx(machine, "8080", keepalive=SHORT)
    as_it_is, useless = Proxy(hosts[0], server), Proxy(hosts[1], server, more="proxy_socket_keepalive on;")
    with claim.effect("POSTs, each just after the server has closed: the symptom") as effect:
        effect.compare("what the client gets", as_it_is.ask_late(client, LATE), document=(200, 502))
        effect.compare("times that the proxy's log names the reset", as_it_is.log().count(RESET), document=1)
        counted = effect.delta(machine).TcpExt.TCPAbortOnData
        effect.compare("TCPAbortOnData at the server", counted, document=at_least(1))
        effect.compare("what a GET gets", as_it_is.ask_late(client, LATE, "GET"), document=(200, 200))
    with claim.effect(f"what does nothing: {', '.join(USELESS)} at both, proxy_socket_keepalive") as effect:
        for knob, value in USELESS.items():
            for host in (machine, hosts[1]):
                host.sysctl[f"net.ipv4.{knob}"] = value
        effect.compare("what the client gets", useless.ask_late(client, LATE), document=(200, 502))
    remedies = {
        "the proxy keeps for half a second": Proxy(hosts[2], server, keeps="500ms"),
        "the proxy keeps none": Proxy(hosts[3], server, kept=0),
        "proxy_next_upstream non_idempotent": Proxy(hosts[4], server, more="proxy_next_upstream error non_idempotent;"),
    }
    for remedy, mended in remedies.items():
        with claim.effect(f"a remedy: {remedy}") as effect:
            effect.compare("what the client gets", mended.ask_late(client, LATE), document=(200, 200))
    with claim.control(f"the cause removed: the server keeps for {LONG} s, the proxy for 60") as control:
        lasting = Nginx(patient, "8080", keepalive=LONG)
        control.expect("what the client gets", Proxy(hosts[5], lasting).ask_late(client, LATE), (200, 200))
        control.expect("connections that the proxy keeps", states_at(patient, lasting.port).count("ESTAB"), 1)
