"""tcp_tw_reuse: what sets the new connection apart from the old one: its first number, and its timestamps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.evidence import drawn, ticks
from harness.instruments.take_over import grow_old, leave_behind, succession
from harness.laws.ranges import at_most, between
from harness.laws.timestamps import keeps_its_offset
from harness.traffic import connect, listen
from harness.traffic.closing import leave_time_wait
from harness.traffic.connection import establish
from harness.traffic.ports import give_ports
from harness.traffic.repair import set_timestamp, timestamp

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair

REUSE = "net.ipv4.tcp_tw_reuse"
PORT = 41000
BETWEEN_ISNS = 65535 + 2
AHEAD = 2**30


@pytest.mark.claim("tw-reuse.initial-sequence")
def test_initial_sequence(claim: ClaimRun, pair: Pair) -> None:
    client, listener = pair.client, listen(pair.server)
    client.sysctl[REUSE] = 1
    packets = claim.capture(client)
    ports = {size: PORT + size for size in (0, 1, 20_000)}
    for size, port in ports.items():
        leave_behind(client, listener, port, b"x" * size)
    grow_old()
    with claim.effect("the port is taken over, after connections that sent 0, 1 and 20000 bytes") as effect:
        for size, port in ports.items():
            give_ports(client, first=port)
            establish(client, listener)
            effect.compare(
                f"after {size} bytes and a FIN: the new first number less the old next one",
                succession(packets, port).numbers,
                document=BETWEEN_ISNS,
            )
    with claim.control("the port is free: the server closed first, so no TIME_WAIT is the client's") as control:
        (port,) = give_ports(client, first=PORT + 2)
        leave_time_wait(client, listener, closer="server")
        establish(client, listener)
        beyond = succession(packets, port).numbers
        control.note("the new first number less the old next one", drawn(beyond))
        control.expect("65537 beyond", beyond == BETWEEN_ISNS, False)


@pytest.mark.claim("tw-reuse.newer-timestamp")
def test_newer_timestamp(claim: ClaimRun, pair: Pair) -> None:
    client, listener = pair.client, listen(pair.server)
    client.sysctl[REUSE] = 1
    packets = claim.capture(client)
    give_ports(client, 12, first=PORT)
    leave_time_wait(client, listener, 12)
    (port,) = give_ports(client, first=PORT + 12)
    old = establish(client, listener)
    set_timestamp(old.client, timestamp(old.client) + AHEAD)
    old.talk().close()
    grow_old()
    with claim.effect("twelve ports are taken over") as effect:
        give_ports(client, 12, first=PORT)
        taken = connect(client, listener, 12, wait=True)
        effect.premise("TWRecycled", effect.delta(client).TcpExt.TWRecycled, 12)
        newer_by = [succession(packets, attempt.port).ticks for attempt in taken]
        newer = sum(ticks > 0 for ticks in newer_by)
        kernel = 12 if keeps_its_offset() else at_most(11)
        effect.compare("timestamps newer than the old one's", newer, document=12, kernel=kernel)
        effect.note("newer by, in ticks of the timestamp clock", ticks(newer_by))
    with claim.control(
        "an old connection whose clock TCP_REPAIR set ahead: what an older timestamp looks like"
    ) as control:
        give_ports(client, first=port)
        connect(client, listener, wait=True)
        if keeps_its_offset():
            control.expect("newer by, in ticks", ticks(succession(packets, port).ticks), between(-AHEAD, -AHEAD // 2))
