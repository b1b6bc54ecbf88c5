"""The documents' lines that make load, and the server that bears it: wrk, hping3, nginx."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import waiting
from harness.evidence import output
from harness.lab.program import find
from harness.laws.ranges import at_least, between
from harness.observe import accept_queue, count, shell, ss
from harness.traffic import arrivals, drop
from harness.traffic.hping3 import packets_sent
from harness.traffic.nginx import Nginx, check_configuration
from harness.traffic.wrk import Load

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair

# Of a machine that is ten times as slow. A deadline measures nothing.
until = partial(waiting.until, deadline=60.0)

# The two server blocks as they are printed, and what each lacks.
PRINTED = {
    """server{
    listen 8088 default backlog=5000
    server_name localhost
    .....
}""": "both semicolons",
    """server{
    listen 8080 default backlog=1024;
    server_name localhost
    ....
}""": "the second semicolon",
}
MENDED = """server{
    listen 8088 default backlog=5000;
    server_name localhost;
}"""


@pytest.mark.claim("commands.wrk")
def test_wrk(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    server.sysctl["net.core.somaxconn"] = 5000
    nginx = Nginx(server, "3000 backlog=5000", location='access_log requests.log; return 200 "ok";')
    log = nginx.directory / "requests.log"
    requests = arrivals(server, "PA", dport=nginx.port)

    def logged() -> int:
        """How many requests nginx has answered."""
        return log.read_text().count("\n")

    for n in (2, 100):
        with claim.effect(f"the document's line with {n} connections instead of 5000, interrupted") as effect:
            log.write_text("")
            before = requests.count
            wrk = client.start("wrk", "-t", 2, "-c", n, "-d", "60s", nginx.url)
            until(lambda n=n: count(client, f"state established dport = :{nginx.port}") == n, what=f"{n} connections")  # type: ignore[misc]
            threads = len(list(Path(f"/proc/{wrk.pid}/task").iterdir()))
            until(lambda n=n: logged() >= 10 * n, what="ten requests on each")  # type: ignore[misc]
            report = wrk.interrupt().stdout
            load = Load.parse(report)
            # nginx logs a request when it has answered it.
            until(lambda n=load.requests: logged() >= n, what="nginx's log")  # type: ignore[misc]
            answered, arrived = logged(), requests.count - before
            effect.compare("connections", f"2 threads and {n} connections" in report, document=True)
            three = "threads (the document's comment: 6), one of which waits for the others"
            effect.compare(three, threads, document=3)
            # A request on each connection may be on its way when the time is over.
            missed = answered - load.requests
            effect.compare("requests that nginx counts beyond wrk's", missed, document=between(0, n))
            repeated = effect.delta(client).Tcp.RetransSegs
            beyond = between(0, repeated + n)
            effect.compare("requests by the kernel beyond nginx's", arrived - answered, document=beyond)
            effect.compare("requests", load.requests, document=at_least(n))
            opened = effect.delta(client).Tcp.ActiveOpens
            effect.premise("connections opened: one more, to look whether somebody answers", opened, n + 1)
            effect.note("requests by wrk, nginx, the kernel", [load.requests, answered, arrived])
    with claim.control("nginx answers nobody") as control:
        nginx.stall()
        load = Load.parse(shell.printed(client, f"wrk -t 2 -c 100 -d 1s {nginx.url}"))
        control.expect("requests", load.requests, 0)
        nginx.resume()


@pytest.mark.ipv4_only("hping3 has no IPv6")
@pytest.mark.claim("commands.hping3")
def test_hping3(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    find("hping3")
    with claim.effect("the document's line, -c 100 and --flood together, until interrupted") as effect:
        with drop(server, "S", dport=80) as arrived:
            flooding = client.start("sh", "-c", f"exec hping3 -c 100 -S -p 80 --flood {server.ip}")
            until(lambda: arrived.count >= 10_000, what="ten thousand SYNs")
            printed = flooding.interrupt().stdout
            effect.compare("SYNs that arrived", arrived.count, document=100, kernel=at_least(10_000))
            # Interrupted between the sending of a packet and its counting, hping3 counts one too few.
            uncounted = arrived.count - packets_sent(printed)
            effect.compare("SYNs that arrived beyond those reported as sent", uncounted, document=between(0, 1))
            effect.note("SYNs", arrived.count)
    with claim.control("without --flood, a thousand a second") as control:
        with drop(server, "S", dport=80) as arrived:
            printed = shell.printed(client, f"hping3 -c 100 -S -p 80 -i u1000 {server.ip} 2>&1")
            control.expect("SYNs that arrived", arrived.count, 100)
            control.expect("SYNs reported as sent", packets_sent(printed), 100)


@pytest.mark.claim("commands.nginx")
def test_nginx(claim: ClaimRun, pair: Pair) -> None:
    server = pair.server

    def accepted(server_block: str) -> bool:
        """Whether `nginx -t` takes a configuration with this server block."""
        tested = check_configuration(server, server_block)
        tried.note(server_block, output(tested.stderr))
        return tested.returncode == 0

    for text, faults in PRINTED.items():
        with claim.effect(f"the document's text, which leaves out {faults}") as tried:
            tried.compare("nginx -t takes it", accepted(text), document=True, kernel=False)
            without_dots = re.sub(r"\.{4,}", "", text)
            tried.compare("without its dots", accepted(without_dots), document=True, kernel=False)
    server.sysctl["net.core.somaxconn"] = 5000
    with claim.effect("its text mended: `listen 8088 default backlog=5000;`, somaxconn 5000") as tried:
        tried.compare("nginx -t takes it", accepted(MENDED), document=True)
        Nginx(server, "8088 default backlog=5000")
        (row,) = ss.parse(shell.printed(server, "ss -lnt | grep 8088"))
        tried.compare("Send-Q of ss -lnt | grep 8088", row.send_q, document=5000)
        tried.compare("Send-Q by inet_diag", accept_queue(server, 8088).limit, document=5000)
    with claim.control("default_server, as it is called today, and no backlog") as control:
        Nginx(server, "8089 default_server")
        (row,) = ss.parse(shell.printed(server, "ss -lnt | grep 8089"))
        control.expect("Send-Q of ss -lnt | grep 8089", row.send_q, 511)
