"""The accept queue of nginx: its backlog by default, by its option, and what it takes for a change to count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.observe import ss
from harness.traffic.nginx import Nginx

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair

SOMAXCONN = "net.core.somaxconn"


@pytest.mark.claim("accept-queue.nginx-default-511")
def test_nginx_default_511(claim: ClaimRun, pair: Pair) -> None:
    def send_q(listen_directive: str) -> int:
        nginx = Nginx(pair.server, listen_directive)
        _, limit = ss.listener(pair.server, nginx.port).queues
        assert limit == nginx.limit
        return limit

    pair.server.sysctl[SOMAXCONN] = 4096
    with claim.effect("nginx without a backlog option") as effect:
        effect.compare("Send-Q", send_q("8088"), document=511)
    with claim.control("nginx with backlog=77") as control:
        control.expect("Send-Q", send_q("8089 backlog=77"), 77)
    with claim.control("nginx without a backlog option, somaxconn 128") as control:
        pair.server.sysctl[SOMAXCONN] = 128
        control.expect("Send-Q", send_q("8090"), 128)


@pytest.mark.claim("accept-queue.nginx-backlog-option")
def test_nginx_backlog_option(claim: ClaimRun, pair: Pair) -> None:
    pair.server.sysctl[SOMAXCONN] = 4096
    nginx = Nginx(pair.server, "8088")
    with claim.control("before: no option, and the new configuration written but not read") as control:
        control.expect("Send-Q", nginx.limit, 511)
        nginx.configure("8088 default backlog=5000")
        pair.server.sysctl[SOMAXCONN] = 5000
        control.expect("Send-Q", nginx.limit, 511)
    with claim.effect("backlog=5000, somaxconn 5000, nginx restarted") as effect:
        nginx.restart()
        effect.compare("Send-Q", nginx.limit, document=5000)
    with claim.control("somaxconn left at 4096, nginx restarted") as control:
        pair.server.sysctl[SOMAXCONN] = 4096
        nginx.restart()
        control.expect("Send-Q", nginx.limit, 4096)


@pytest.mark.claim("accept-queue.nginx-must-restart")
def test_nginx_must_restart(claim: ClaimRun, pair: Pair) -> None:
    pair.server.sysctl[SOMAXCONN] = 4096
    nginx = Nginx(pair.server, "8088 default backlog=511")
    with claim.effect("backlog=511 becomes backlog=4500, and nginx is told to reload") as effect:
        nginx.configure("8088 default backlog=4500")
        effect.premise("Send-Q before it is told", nginx.limit, 511)
        pair.server.sysctl[SOMAXCONN] = 4400
        nginx.reload()
        effect.compare("Send-Q", nginx.limit, document=511, kernel=4400)
    with claim.control("somaxconn alone rises, and nginx is told to reload") as control:
        pair.server.sysctl[SOMAXCONN] = 5000
        nginx.reload()
        control.expect("Send-Q", nginx.limit, 4400)
        nginx.restart()
        control.expect("Send-Q after a restart", nginx.limit, 4500)
