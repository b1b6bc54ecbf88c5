"""A firewall forgets connections that were idle: what is said on them afterwards vanishes, and nobody is told.

An application keeps connections to its database in a pool. After a quiet night the first queries hang, for a quarter of
an hour; who connects anew is served at once. The firewall between them forgets a connection that says nothing for three
seconds (nf_conntrack_tcp_timeout_established; 350 s in some clouds, five days in Linux) and drops what belongs to none.
Pools side by side, some with a remedy, are idle for as long.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from harness.laws.ranges import at_least
from harness.observe import states_at
from harness.traffic import arrivals, connect, echo, listen
from harness.waiting import let_pass
from scenarios.incidents import firewall

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lab
    from harness.traffic import Attempts, Listener

REMEMBERED, PAUSE, PATIENCE = 3, 6, 3.0  # seconds
POOL = 3
TCP = socket.IPPROTO_TCP
IDLE = ((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (TCP, socket.TCP_KEEPIDLE, 1))
KEEPALIVE = (*IDLE, (TCP, socket.TCP_KEEPINTVL, 1))
# The default, said all the same: before Linux 4.5 the other client's sysctl is every client's.
IDLE_ONLY = (*IDLE, (TCP, socket.TCP_KEEPINTVL, 75))
USER_TIMEOUT = ((TCP, socket.TCP_USER_TIMEOUT, 1000),)
OF_HOST = {"tcp_keepalive_time": 1, "tcp_keepalive_intvl": 1, "tcp_fin_timeout": 5}


def pool(client: Host, database: Listener, options: tuple[tuple[int, int, int], ...] = ()) -> Attempts:
    """Connections with these options of the socket, each used once."""
    connections = connect(client, database, POOL, wait=True)
    for each in connections:
        for option in options:
            each.socket.setsockopt(*option)
    assert connections.ask() == POOL
    return connections


def be_quiet(used: Attempts) -> None:
    """Let all be idle but the pool that is used."""
    began = time.monotonic()
    while time.monotonic() - began < PAUSE:
        assert used.ask() == POOL
        let_pass(0.5, what="connections to be idle")


@pytest.mark.slow(20)
@pytest.mark.claim("incidents.firewall-forgets")
def test_firewall_forgets(claim: ClaimRun, lab: Lab) -> None:
    net = firewall.build(lab, 2)
    (client, other), between, database = net.clients, net.gateway, listen(net.server, answer=echo)
    between.conntrack.loose = False
    between.conntrack.timeouts["established"] = REMEMBERED
    for knob, value in OF_HOST.items():
        other.sysctl[f"net.ipv4.{knob}"] = value
    idle, told, used, alive, hasty, ending = (
        pool(client, database, options) for options in ((), (), (), KEEPALIVE, IDLE_ONLY, USER_TIMEOUT)
    )
    hoping = pool(other, database)
    be_quiet(used)
    with claim.effect("queries after a pause that was longer than the firewall remembers: the symptom") as effect:
        effect.compare("queries answered on connections that were used", used.ask(), document=POOL)
        came = arrivals(net.server, "PA")
        effect.compare("queries answered, of three", idle.ask(deadline=PATIENCE), document=0)
        effect.compare("queries that the database gets", came.count, document=0)
        effect.compare("what the application is told", set(idle.fates()), document={"open"})
        again = effect.delta(client).Tcp.RetransSegs
        effect.compare("times that they were sent again", again, document=at_least(2 * POOL))
        effect.compare("a connection as the database has it", states_at(net.server, idle[0].port), document=["ESTAB"])
        effect.compare("queries answered on new connections", pool(client, database).connected, document=POOL)
    with claim.effect("what does nothing") as effect:
        sysctls = f"queries answered, {', '.join(OF_HOST)}, no socket asks for keepalive"
        effect.compare(sysctls, hoping.ask(deadline=PATIENCE), document=0)
        effect.compare("with TCP_KEEPIDLE 1, where the next probe is due 75 s later", hasty.ask(deadline=1), document=0)
    with claim.effect("remedies of the application") as effect:
        effect.compare("queries answered with TCP_KEEPIDLE and TCP_KEEPINTVL 1", alive.ask(), document=POOL)
        ending.ask(deadline=2 * PATIENCE)
        effect.compare("what TCP_USER_TIMEOUT of a second tells", dict(ending.fates()), document={"ETIMEDOUT": POOL})
    with claim.effect("a remedy of the firewall: a rule that rejects with RST") as effect:
        between.firewall.reject(state="invalid")
        told.ask(deadline=2 * PATIENCE)
        effect.compare("what the application is told", dict(told.fates()), document={"ECONNRESET": POOL})
    with claim.control("the cause removed: the firewall remembers for an hour") as control:
        between.conntrack.timeouts["established"] = 3600
        mended = pool(client, database)
        be_quiet(pool(client, database))
        control.expect("queries answered after the same pause", mended.ask(), POOL)
