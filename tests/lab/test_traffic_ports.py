"""A host has the ports for its connect() calls that it was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput
from harness.traffic import connect, listen
from harness.traffic.ports import PORT_RANGE, bind_alone, give_ports, ports_of

if TYPE_CHECKING:
    from harness.lab import Pair


def test_so_many_ports(pair: Pair) -> None:
    given = give_ports(pair.client, 4, first=41000)
    assert (given, ports_of(pair.client)) == (range(41000, 41004), range(41000, 41004))
    clients = connect(pair.client, listen(pair.server, 10), 5, wait=True)
    assert dict(clients.results()) == {"connected": 4, "EADDRNOTAVAIL": 1}
    assert {client.port for client in clients if client.result == "connected"} == set(given)


def test_a_single_port(pair: Pair) -> None:
    assert give_ports(pair.client, first=41000) == range(41000, 41001)
    assert pair.client.sysctl[PORT_RANGE].split() == ["41000", "41000"]
    assert connect(pair.client, listen(pair.server), wait=True)[0].port == 41000


def test_a_port_for_oneself(pair: Pair) -> None:
    listener = listen(pair.server)
    address = listener.address
    assert bind_alone(pair.server, address) == "EADDRINUSE"
    listener.close()
    assert bind_alone(pair.server, address) == "bound"
    assert bind_alone(pair.server, address) == "bound"


@pytest.mark.parametrize(("number", "first"), [(0, 40000), (-1, 40000), (1, 0), (2, 65535)])
def test_ports_that_there_are_not(pair: Pair, number: int, first: int) -> None:
    with pytest.raises(BadInput, match=f"host client cannot have {number} ports from {first} on"):
        give_ports(pair.client, number, first=first)
    assert ports_of(pair.client).start == 32768
