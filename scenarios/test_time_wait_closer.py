"""Who gets TIME-WAIT: the side that closes first; the other side is free of the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.evidence import state
from harness.instruments.closing import SimultaneousClose, lose_last_ack, states_of_both
from harness.observe import ss, states_at, states_between
from harness.traffic import connect, establish, listen
from harness.traffic.closing import leave_time_wait
from harness.traffic.connection import abort, error_of
from harness.traffic.ports import bind_alone
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair

ONE_SIDE = (
    ("client", {"client": ["TIME-WAIT"], "server": []}),
    ("server", {"client": [], "server": ["TIME-WAIT"]}),
)


@pytest.mark.claim("time-wait.active-closer")
def test_active_closer(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    for closer, document in ONE_SIDE:
        with claim.effect(f"the {closer} closes first") as effect:
            listener = listen(server)
            leave_time_wait(client, listener, closer=closer)
            effect.compare("states", states_of_both(client, listener), document=document)
            rows = ss.rows(client if closer == "client" else server, "-tan")
            shown = [row.state for row in rows if str(listener.port) in (row.local_port, row.remote_port)]
            connections = state([word for word in shown if word != "LISTEN"])
            effect.compare("ss -tan", connections, document=["TIME-WAIT"])

    with claim.effect(
        "both close at once: neither FIN arrives before both are sent, nor its ACK before both"
    ) as effect:
        listener = listen(server)
        closing = SimultaneousClose(client, listener, claim.capture(server, port=listener.port))
        closing.send_fins()
        effect.premise("with both FINs sent", closing.states, {"client": ["FIN-WAIT-1"], "server": ["FIN-WAIT-1"]})
        closing.deliver_fins()
        both = {"client": ["CLOSING"], "server": ["CLOSING"]}
        effect.premise("with both FINs delivered, and no ACK yet", closing.states, both)
        closing.deliver_acks()
        effect.compare("states", closing.states, document={"client": ["TIME-WAIT"], "server": ["TIME-WAIT"]})

    with claim.control("the client does not close but aborts: a RST in place of the FIN") as control:
        listener = listen(server)
        connection = establish(client, listener)
        abort(connection.client)
        until(lambda: not states_at(server, listener.port), what="the RST to arrive")
        control.expect("states", states_of_both(client, listener), {"client": [], "server": []})
        control.expect("error on the server", error_of(connection.server), "ECONNRESET")


@pytest.mark.claim("time-wait.passive-closer-free")
def test_passive_closer_free(claim: ClaimRun, pair: Pair) -> None:
    for closer in ("client", "server"):
        active, passive = (pair.client, pair.server) if closer == "client" else (pair.server, pair.client)
        with claim.effect(f"the {closer} closes first") as effect:
            listener = listen(pair.server)
            ((local, remote),) = leave_time_wait(pair.client, listener, closer=closer)
            effect.compare("connections of the other side", state(states_at(passive, listener.port)), document=[])
            listener.close()
            effect.compare("bind() of its port, for itself alone", bind_alone(passive, remote), document="bound")
            again = connect(passive, listen(active), source=remote, wait=True)
            effect.compare("its port, used again at once", again.results(), document={"connected": 1})
            left = state(states_between(active, local, remote))
            effect.compare("the side that closed first", left, document=["TIME-WAIT"])
    with claim.control("the last ACK is lost: the other side still waits for it") as control:
        listener = listen(pair.client)
        last = lose_last_ack(pair.server, listener)
        listener.socket.close()
        control.expect("state of the other side", state(last.states), ["LAST-ACK"])
        control.expect("bind() of its port, for itself alone", bind_alone(pair.client, last.remote), "EADDRINUSE")
        last.repeat()
