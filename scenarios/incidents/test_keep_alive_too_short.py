"""A proxy's clients get 502 now and then: its server keeps idle connections for a shorter time than the proxy does.

The server closes what has been idle for a second. The proxy, which keeps it for a minute, learns of that when the FIN
arrives; what it has sent until then meets a socket that nobody holds any more, and is answered with RST. The FIN is
held on its way here, so that each request comes into that gap, which is else a round trip long. nginx asks again on
another connection where that is safe, so a GET is served and a POST is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.laws.ranges import at_least
from harness.observe import states_at
from harness.traffic import hold
from harness.traffic.nginx import Nginx
from harness.waiting import let_pass, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lan

SHORT, LONG = 1, 65  # seconds
FORWARD = 'proxy_pass http://application; proxy_http_version 1.1; proxy_set_header Connection "";'
RESET = "recv() failed (104: Connection reset by peer) while reading response header from upstream"
USELESS = {"tcp_fin_timeout": 5, "tcp_tw_reuse": 1, "tcp_keepalive_time": 1, "tcp_orphan_retries": 1}


def proxy(host: Host, server: Nginx, *, keep: str = "60s", kept: int = 4, more: str = "") -> Nginx:
    """A proxy that keeps so many connections to the server for so long."""
    pool = f"keepalive {kept}; keepalive_timeout {keep};" if kept else ""
    application = server.url.removeprefix("http://").rstrip("/")
    return Nginx(host, location=FORWARD + more, http=f"upstream application {{ server {application}; {pool} }}")


def ask(client: Host, of: Nginx, method: str = "POST") -> int:
    """The status that a client gets."""
    with client.socket() as asking:
        asking.settimeout(60)
        asking.connect((of.host.ip, of.port))
        asking.sendall(f"{method} / HTTP/1.0\r\nHost: shop\r\nContent-Length: 0\r\n\r\n".encode())
        return int(asking.recv(4096).split()[1])


def ask_late(client: Host, of: Nginx, server: Nginx, method: str = "POST") -> tuple[int, int]:
    """What a client gets for a request, and for the next one, which comes when the server would have closed."""
    until(lambda: set(states_at(server.host, server.port)) <= {"TIME-WAIT"}, what="the connections of before to end")
    with hold(of.host, "FA", sport=server.port):
        first = ask(client, of)
        let_pass(1.5 * SHORT)
        return first, ask(client, of, method)


@pytest.mark.slow(12)
@pytest.mark.claim("incidents.keep-alive-too-short")
def test_keep_alive_too_short(claim: ClaimRun, lan: Callable[[int], Lan]) -> None:
    client, machine, patient, *hosts = lan(9).hosts
    server = Nginx(machine, "8080", keepalive=SHORT)
    as_it_is, useless = proxy(hosts[0], server), proxy(hosts[1], server, more="proxy_socket_keepalive on;")
    with claim.effect("POSTs, each just after the server has closed: the symptom") as effect:
        effect.compare("what the client gets", ask_late(client, as_it_is, server), document=(200, 502))
        said = (as_it_is.directory / "error.log").read_text()
        effect.compare("times that the proxy's log names the reset", said.count(RESET), document=1)
        counted = effect.delta(machine).TcpExt.TCPAbortOnData
        effect.compare("TCPAbortOnData at the server", counted, document=at_least(1))
        effect.compare("what a GET gets", ask_late(client, as_it_is, server, "GET"), document=(200, 200))
    with claim.effect(f"what does nothing: {', '.join(USELESS)} at both, proxy_socket_keepalive") as effect:
        for knob, value in USELESS.items():
            for host in (machine, useless.host):
                host.sysctl[f"net.ipv4.{knob}"] = value
        effect.compare("what the client gets", ask_late(client, useless, server), document=(200, 502))
    remedies = {
        "the proxy keeps for half a second": proxy(hosts[2], server, keep="500ms"),
        "the proxy keeps none": proxy(hosts[3], server, kept=0),
        "proxy_next_upstream non_idempotent": proxy(hosts[4], server, more="proxy_next_upstream error non_idempotent;"),
    }
    for remedy, mended in remedies.items():
        with claim.effect(f"a remedy: {remedy}") as effect:
            effect.compare("what the client gets", ask_late(client, mended, server), document=(200, 200))
    with claim.control(f"the cause removed: the server keeps for {LONG} s, the proxy for 60") as control:
        lasting = Nginx(patient, "8080", keepalive=LONG)
        mended = proxy(hosts[5], lasting)
        first = ask(client, mended)
        let_pass(1.5 * SHORT)
        control.expect("what the client gets", (first, ask(client, mended)), (200, 200))
        control.expect("connections that the proxy keeps", states_at(patient, lasting.port).count("ESTAB"), 1)
