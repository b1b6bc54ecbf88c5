"""The documents' lines that make load, and the server that bears it: wrk, hping3, nginx."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import waiting
from harness.evidence import output, seconds
from harness.lab.program import find
from harness.laws.ranges import at_least, between
from harness.observe import count, shell
from harness.traffic import arrivals, drop
from harness.traffic.hping3 import packets_sent
from harness.traffic.nginx import Nginx, check_configuration
from harness.traffic.wrk import Load
from harness.waiting import let_pass

if TYPE_CHECKING:
    from harness.claims.phases import LivePhase
    from harness.claims.record import ClaimRun
    from harness.lab import Pair

# Of a machine that is ten times as slow. A deadline measures nothing.
until = partial(waiting.until, deadline=60.0)

# The two server blocks as they are printed. Their dots are an ellipsis.
PRINTED = (
    """server{
    listen 8088 default backlog=5000
    server_name localhost
    .....
}""",
    """server{
    listen 8080 default backlog=1024;
    server_name localhost
    ....
}""",
)
# How long hping3 floods, in seconds. It sends some hundred thousand a second; a thousand are more than any -c of 100.
FLOODED_FOR, MORE = 2.0, at_least(1000)


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
            until(lambda n=n: logged() >= 10 * n, what="ten requests on each")  # type: ignore[misc]
            report = wrk.interrupt().stdout
            load = Load.parse(report)
            # nginx logs a request when it has answered it.
            until(lambda n=load.requests: logged() >= n, what="nginx's log")  # type: ignore[misc]
            answered, arrived = logged(), requests.count - before
            effect.compare("connections", f"2 threads and {n} connections" in report, document=True)
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


@pytest.mark.claim("commands.wrk-six-threads")
def test_wrk_six_threads(claim: ClaimRun, pair: Pair) -> None:
    client, nginx = pair.client, Nginx(pair.server, "3000", location='return 200 "ok";')

    def threads(asked: int) -> int:
        """How many threads of wrk make requests; one more waits for them."""
        wrk = client.start("wrk", "-t", asked, "-c", 12, "-d", "60s", nginx.url)
        until(lambda: count(client, f"state established dport = :{nginx.port}") == 12, what="12 connections")
        running = len(list(Path(f"/proc/{wrk.pid}/task").iterdir())) - 1
        wrk.interrupt()
        until(lambda: not count(client, "state established"), what="wrk's connections to end")
        return running

    with claim.effect("wrk -t 2") as effect:
        effect.compare("threads", threads(2), document=6, kernel=2)
    with claim.control("wrk -t 6") as control:
        control.expect("threads", threads(6), 6)


@pytest.mark.claim("commands.wrk")
@pytest.mark.full_size("5000 connections for 60 s, as the document has them")
@pytest.mark.slow(65)
def test_wrk_full_size(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    server.sysctl["net.core.somaxconn"] = 5000
    nginx = Nginx(server, "3000 backlog=5000", location='return 200 "ok";')
    requests, line = arrivals(server, "PA", dport=nginx.port), f"wrk -t 2 -c {{}} -d {{}}s {nginx.url}"
    open_now = f"state established dport = :{nginx.port}"
    with claim.effect("the document's line") as effect:
        wrk = client.start("sh", "-c", "ulimit -n 6000 && exec " + line.format(5000, 60))
        until(lambda: count(client, open_now) == 5000, what="5000 connections")
        report = wrk.wait(120).stdout
        load = Load.parse(report)
        effect.compare("connections", "2 threads and 5000 connections" in report, document=True)
        effect.compare("seconds", seconds(load.seconds), document=between(59, 66))
        effect.compare("requests", load.requests, document=at_least(5000))
        effect.compare("requests that arrived", requests.count, document=at_least(load.requests))
    with claim.control("nginx answers nobody") as control:
        nginx.stall()
        control.expect("requests", Load.parse(shell.printed(client, line.format(100, 1))).requests, 0)
        nginx.resume()


@pytest.mark.ipv4_only("hping3 has no IPv6")
@pytest.mark.claim("commands.hping3")
@pytest.mark.slow(4)
def test_hping3(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    find("hping3")
    with claim.effect(
        "the document's line, -c 100 and --flood together, interrupted two seconds after its first SYN"
    ) as effect:
        with drop(server, "S", dport=80) as arrived:
            flooding = client.start("sh", "-c", f"exec hping3 -c 100 -S -p 80 --flood {server.ip}")
            until(lambda: arrived.count, what="the first SYN")
            let_pass(FLOODED_FOR, what="the time for which hping3 is left alone")
            printed = flooding.interrupt().stdout
            effect.compare("SYNs that arrived", arrived.count, document=100, kernel=MORE)
            # Interrupted between the sending of a packet and its counting, hping3 counts one too few.
            uncounted = arrived.count - packets_sent(printed)
            effect.premise("SYNs that arrived beyond those reported as sent", uncounted, between(0, 1))
    with claim.control("without --flood, a thousand a second") as control:
        with drop(server, "S", dport=80) as arrived:
            printed = shell.printed(client, f"hping3 -c 100 -S -p 80 -i u1000 {server.ip} 2>&1")
            control.expect("SYNs that arrived", arrived.count, 100)
            control.expect("SYNs reported as sent", packets_sent(printed), 100)


@pytest.mark.claim("commands.nginx")
def test_nginx(claim: ClaimRun, pair: Pair) -> None:
    server = pair.server

    def accepted(phase: LivePhase, server_block: str) -> bool:
        """Whether `nginx -t` takes a configuration with this server block."""
        tested = check_configuration(server, server_block)
        phase.note(server_block, output(tested.stderr))
        return tested.returncode == 0

    for text in PRINTED:
        without_dots = re.sub(r"\n *\.{4,}", "", text)
        (port,) = re.findall(r"listen (\d+)", text)
        with claim.effect(f"the document's text for port {port}, its ellipsis left out") as effect:
            effect.compare("nginx -t takes it", accepted(effect, without_dots), document=True, kernel=False)
        with claim.control("the same with a semicolon at the end of each line") as control:
            mended = re.sub(r"(?m)(?<![{};])$", ";", without_dots)
            control.expect("nginx -t takes it", accepted(control, mended), wanted=True)
