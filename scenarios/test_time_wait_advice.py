"""What the documents advise against TIME-WAIT: keep-alive at the server."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds
from harness.instruments.keepalive import browse, fall_silent, known, time_wait_left
from harness.laws.ranges import at_least, at_most
from harness.laws.timers import KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, KEEPALIVE_TIME, about
from harness.traffic import drop
from harness.traffic.browser import REQUEST, Browser
from harness.traffic.nginx import Nginx
from harness.traffic.wrk import Wrk
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair


@pytest.mark.claim("time-wait.server-keepalive")
def test_server_keepalive(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    with claim.control("nginx with keepalive_timeout 0: 30 requests") as control:
        nginx = Nginx(server, "8001", keepalive=0)
        control.expect("connections that they took", browse(client, nginx, 30), 30)
        control.expect("TIME-WAIT", time_wait_left(client, nginx), {"server": 30, "client": 0})
    with claim.effect("nginx with keepalive_timeout 65: 30 requests, then the client closes") as effect:
        nginx = Nginx(server, "8002", keepalive=65)
        effect.compare("connections that they took", browse(client, nginx, 30), document=1)
        left = time_wait_left(client, nginx)
        effect.compare("TIME-WAIT at the server", left["server"], document=0)
        effect.compare("TIME-WAIT at the client", left["client"], document=at_most(1))
    with claim.effect("real load: wrk, 20 connections") as effect:
        load = Wrk(client, nginx.url, connections=20, seconds=1).wait()
        effect.note("requests", load.requests)
        effect.premise("requests for each connection", load.requests / 20, at_least(2))
        effect.compare("TIME-WAIT at the server", time_wait_left(client, nginx)["server"], document=0)
    with claim.control("keep-alive that ends: after keepalive_requests 5 of 30 requests") as control:
        nginx = Nginx(server, "8003", keepalive_requests=5)
        control.expect("connections that they took", browse(client, nginx, 30), 6)
        control.expect("TIME-WAIT", time_wait_left(client, nginx), {"server": 6, "client": 0})
    with claim.control("keep-alive that ends: a client idle for longer than keepalive_timeout 1") as control:
        nginx = Nginx(server, "8004", keepalive=1)
        idle = Browser(client, nginx)
        idle.ask()
        idle.wait_for_end()
        control.expect("TIME-WAIT", time_wait_left(client, nginx), {"server": 1, "client": 0})


@pytest.mark.claim("time-wait.server-keepalive")
@pytest.mark.full_size("a connection is probed after two hours of silence, and nine times, 75 s apart")
@pytest.mark.slow(3 * 3600)
def test_server_keepalive_when_the_client_has_gone(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    gone = fall_silent(client, server, "8005 so_keepalive=on")
    unprobed = fall_silent(client, server, "8006")
    there = fall_silent(client, server, "8007 so_keepalive=on")
    seen = claim.capture(server, port=gone.nginx.port)
    gone.ask()
    gone.settle()
    with drop(server, dport=gone.nginx.port), drop(server, dport=unprobed.nginx.port):
        with claim.effect("the client has gone, so_keepalive on, all knobs at their defaults") as effect:
            with pytest.raises(ConnectionResetError):
                gone.wait_for_end()
            until(lambda: not known(gone), what="the end of the connection at the server")
            effect.compare("TIME-WAIT at the server", time_wait_left(client, gone.nginx)["server"], document=0)
            sent = seen.segments(direction="out")
            *_, last_answer = (segment.time for segment in seen.segments() if segment.payload == REQUEST)
            late = [segment for segment in sent if segment.time - last_answer > KEEPALIVE_INTERVAL]
            probes = [segment.time for segment in late if segment.flags == "A"]
            (reset,) = (segment.time for segment in sent if "R" in segment.flags)
            effect.premise("probes", len(probes), KEEPALIVE_PROBES)
            effect.premise("seconds until the first", seconds(probes[0] - last_answer), about(KEEPALIVE_TIME))
            for earlier, later in itertools.pairwise([*probes, reset]):
                gap = seconds(later - earlier)
                effect.premise("seconds from one to the next, or to the reset", gap, about(KEEPALIVE_INTERVAL))
        with claim.control("no probes: so_keepalive off") as control:
            control.expect("connections of a client that has gone", known(unprobed), 1)
    with claim.control("the client answers the probes") as control:
        control.expect("connections", known(there), 1)
        there.ask()  # the last: nginx answers on one connection for an hour (keepalive_time)
    with claim.control("without keep-alive") as control:
        nginx = Nginx(server, "8008", keepalive=0)
        browse(client, nginx, 1)
        control.expect("TIME-WAIT", time_wait_left(client, nginx), {"server": 1, "client": 0})
