"""A firewall whose table of connections is full: the SYN of every new client is dropped, and those of before go on.

The table has room for nf_conntrack_max connections, and remembers each for five days after its last packet
(nf_conntrack_tcp_timeout_established): also those whose ends have both gone without a word. When it is full of them,
the log says "nf_conntrack: table full, dropping packet", the column `drop` of `conntrack -S` grows, and to a new client
the server looks dead. Neither host shows a thing. A shorter timeout counts for connections that still say something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds
from harness.instruments.between import wait_for_knocks
from harness.instruments.connection_table import ConnectionTable
from harness.laws.ranges import at_least, at_most
from harness.observe.conntrack import tracked
from harness.traffic import arrivals, connect, echo, listen
from scenarios.incidents import firewall

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Lab

# Of a kernel of our own; otherwise the machine's limit counts.
ROOM = 2000
CLIENTS = 5


@pytest.mark.slow(5)
@pytest.mark.ipv4_only("the table is one for both families, and full for both")
@pytest.mark.claim("incidents.conntrack-full")
def test_conntrack_full(claim: ClaimRun, lab: Lab) -> None:
    net = firewall.build(lab)
    (client,), server, table = net.clients, net.server, ConnectionTable(net.gateway)
    table.lower(ROOM)
    listener, spare = (listen(server, answer=echo) for _ in range(2))
    with claim.control("the table has room") as control:
        before = connect(client, listener, CLIENTS, wait=True)
        control.expect("clients answered", before.ask(), CLIENTS)
    with claim.effect("the table is full of connections whose ends have gone: the symptom") as effect:
        effect.note("connections that nobody has", table.fill((lab.cables[0].address(500, lab.family), server.ip)))
        effect.compare("connections that the table has room for", table.limit - table.count, document=0)
        came = arrivals(server, "S")
        new, others = (connect(client, to, CLIENTS) for to in (listener, spare))
        wait_for_knocks(1, new, others)
        effect.compare("new clients let in", new.connected + others.connected, document=0)
        effect.compare("SYNs that the server gets", came.count, document=0)
        effect.compare("packets dropped, by conntrack -S", table.dropped, document=at_least(4 * CLIENTS))
        effect.compare("clients of before that are answered", before.ask(), document=CLIENTS)
    with claim.effect("what does nothing: nf_conntrack_tcp_timeout_established 3600, of five days") as effect:
        net.gateway.conntrack.timeouts["established"] = 3600
        effect.compare("clients of before that are answered", before.ask(), document=CLIENTS)
        entry = tracked(net.gateway, (before[0].port, listener.port))
        left = seconds(entry and entry.seconds_left)
        effect.compare("seconds for which one of these is remembered from now on", left, document=at_most(3600))
        wait_for_knocks(1, new, others)
        effect.compare("connections that the table has room for", table.limit - table.count, document=0)
        effect.compare("new clients let in", new.connected + others.connected, document=0)
    with claim.effect("a remedy: notrack, for the port of the one service") as effect:
        net.gateway.firewall.keep_no_track(spare.port)
        effect.compare("its clients answered", connect(client, spare, CLIENTS, wait=True).ask(), document=CLIENTS)
        effect.compare("clients of the other service let in", new.connected, document=0)
    with claim.control("the cause removed: conntrack -F, which forgets all") as control:
        table.empty()
        control.expect("new clients answered", connect(client, listener, CLIENTS, wait=True).ask(), CLIENTS)
        control.expect("clients of before answered, picked up again", before.ask(), CLIENTS)
