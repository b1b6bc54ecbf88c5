"""The instruments of local ports, threads and the RTO: what they say of a host that has few of them, and of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.instruments.connect_time import connect_times
from harness.instruments.descriptors import start_threads
from harness.instruments.port_choice import WITHOUT_PORT, Option, own_range, refused, take_ports
from harness.traffic import listen
from harness.traffic.ports import give_ports

if TYPE_CHECKING:
    from harness.lab import Pair


def test_ports_are_taken_until_there_are_no_more(pair: Pair) -> None:
    give_ports(pair.client, 4)
    taken = take_ports(pair.client, 5, to=listen(pair.server))
    assert sorted(taken.ports) == [40000, 40001, 40002, 40003]
    assert taken.errors == ["connect: EADDRNOTAVAIL"]
    assert (taken.evens(4), taken.between) == (2, [])


def test_bound_ports_are_known_before_they_connect(pair: Pair) -> None:
    give_ports(pair.client, 4)
    taken = take_ports(pair.client, 5, bind=True)
    assert taken.between == taken.ports
    assert taken.errors == ["bind: EADDRINUSE"]
    give_ports(pair.client, 4, first=41000)
    assert take_ports(pair.client, 1, to=listen(pair.server), bind=True, options=[WITHOUT_PORT]).between == [0]


def test_an_option_that_does_not_exist_is_refused(pair: Pair) -> None:
    nonsense: Option = (250, b"\0\0\0\0")
    assert refused(pair.client, WITHOUT_PORT) == ""
    assert refused(pair.client, nonsense) == "ENOPROTOOPT"


def test_a_connect_with_a_range_of_its_own_is_measured(pair: Pair) -> None:
    if refused(pair.client, own_range(50000, 50009)):
        pytest.skip("the kernel has no IP_LOCAL_PORT_RANGE")
    assert min(connect_times(pair.client, listen(pair.server), 3, options=[own_range(50000, 50009)])) > 0


def test_threads_are_counted_by_user_and_not_by_descriptors(pair: Pair) -> None:
    assert start_threads(pair.client, 20, limit="nofile", number=10).threads == 20
    assert start_threads(pair.client, 20, limit="nofile", number=10).sockets < 10
