"""Which local port connect() and bind() choose, what two options of a socket change in that, and what looking costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.evidence import seconds
from harness.instruments.connect_time import connect_times, times_as_long
from harness.instruments.port_choice import WITHOUT_PORT, own_range, refused, take_ports
from harness.instruments.turns import alone
from harness.laws import since
from harness.laws.ranges import at_least, at_most, between
from harness.observe import count
from harness.traffic import listen
from harness.traffic.closing import leave_time_wait
from harness.traffic.ports import give_ports

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.instruments.port_choice import Option
    from harness.lab import Host, Pair
    from harness.traffic import Listener

NO_PORT, IN_USE = "connect: EADDRNOTAVAIL", "bind: EADDRINUSE"


def lacks(claim: ClaimRun, host: Host, option: Option, name: str) -> bool:
    """Whether the kernel does not know an option; the run is then settled by what it says to it."""
    if said := refused(host, option):
        claim.not_applicable(f"the kernel has no {name}", shown=said)
    return bool(said)


@pytest.mark.claim("limits.bind-takes-a-port")
def test_bind_takes_a_port(claim: ClaimRun, pair: Pair) -> None:
    client, first, second = pair.client, listen(pair.server), listen(pair.server)
    if lacks(claim, client, WITHOUT_PORT, "IP_BIND_ADDRESS_NO_PORT"):
        return
    with claim.effect("a range of ten ports; sockets bound to the client's address and port 0") as effect:
        ten = give_ports(client, 10, first=60000)
        taken = take_ports(client, 12, to=first, bind=True)
        effect.compare("ports of twelve for one destination", sorted(taken.ports), document=[*ten])
        effect.compare("their ports before connect()", sorted(taken.between), document=[*ten])
        effect.compare("how the others end", taken.errors, document=[IN_USE] * 2)
        more = take_ports(client, 12, to=second, bind=True)
        effect.compare("how twelve for another destination end", more.errors, document=[IN_USE] * 12)
    with claim.effect("another ten, with IP_BIND_ADDRESS_NO_PORT") as effect:
        ten = give_ports(client, 10, first=61000)
        taken = take_ports(client, 12, to=first, bind=True, options=[WITHOUT_PORT])
        effect.compare("ports of twelve for one destination", sorted(taken.ports), document=[*ten])
        effect.compare("their ports before connect()", taken.between, document=[0] * 12)
        effect.compare("how the others end", taken.errors, document=[NO_PORT] * 2)
        more = take_ports(client, 12, to=second, bind=True, options=[WITHOUT_PORT])
        effect.compare("ports of twelve for another destination", sorted(more.ports), document=[*ten])
    with claim.control("another ten, and the sockets are not bound") as control:
        ten = give_ports(client, 10, first=62000)
        for destination in (first, second):
            taken = take_ports(client, 12, to=destination)
            control.expect("ports of twelve", sorted(taken.ports), [*ten])
            control.expect("how the others end", taken.errors, [NO_PORT] * 2)


@pytest.mark.claim("limits.parities")
def test_parities(claim: ClaimRun, pair: Pair) -> None:
    client, listener = pair.client, listen(pair.server)
    ordered = since("bind-searches-the-other-parity-first")
    some, most = (10, 10) if ordered else (between(0, 10), between(0, 9))
    with claim.effect("twenty ports from 40000 on") as effect:
        give_ports(client, 20, first=40000)
        connected = take_ports(client, 20, to=listener)
        effect.compare("even ones of the first ten connect()", connected.evens(10), document=10, kernel=some)
        effect.compare("ports of twenty connect()", sorted(connected.ports), document=[*range(40000, 40020)])
        give_ports(client, 20, first=42000)
        bound = take_ports(client, 20, bind=True)
        effect.compare("odd ones of the first ten bind()", 10 - bound.evens(10), document=10, kernel=most)
        effect.compare("ports of twenty bind()", sorted(bound.ports), document=[*range(42000, 42020)])
    if ordered:
        with claim.effect("twenty ports for both: ten connect(), ten bind()") as effect:
            twenty = give_ports(client, 20, first=44000)
            connected, bound = take_ports(client, 10, to=listener), take_ports(client, 10, bind=True)
            effect.compare("ports of connect()", sorted(connected.ports), document=[*twenty[::2]])
            effect.compare("ports of bind()", sorted(bound.ports), document=[*twenty[1::2]])
    with claim.control("a range that begins with an odd number, 46001") as control:
        give_ports(client, 20, first=46001)
        evens = take_ports(client, 10, to=listener).evens(10)
        control.expect("even ones of ten connect()", evens, 0 if ordered else some)
        give_ports(client, 20, first=48001)
        evens = take_ports(client, 10, bind=True).evens(10)
        control.expect("even ones of ten bind()", evens, 10 if ordered else most)


@pytest.mark.claim("limits.own-range")
def test_own_range(claim: ClaimRun, pair: Pair) -> None:
    client, listener = pair.client, listen(pair.server)
    if lacks(claim, client, own_range(50000, 50009), "IP_LOCAL_PORT_RANGE"):
        return
    with claim.effect(
        "twelve sockets with IP_LOCAL_PORT_RANGE 50000 to 50009, by connect(); 50010 to 50019, by bind()"
    ) as effect:
        connected = take_ports(client, 12, to=listener, options=[own_range(50000, 50009)])
        effect.compare("ports of connect()", sorted(connected.ports), document=[*range(50000, 50010)])
        effect.compare("how the others end", connected.errors, document=[NO_PORT] * 2)
        bound = take_ports(client, 12, bind=True, options=[own_range(50010, 50019)])
        effect.compare("ports of bind()", sorted(bound.ports), document=[*range(50010, 50020)])
        effect.compare("how the others end", bound.errors, document=[IN_USE] * 2)
    with claim.effect(
        "ranges that reach beyond 40000 to 40019, which is ip_local_port_range, or have one end"
    ) as effect:
        give_ports(client, 20)
        for first, last, within in (
            (39990, 40005, range(40000, 40006)),
            (40014, 40030, range(40014, 40020)),
            (40016, 0, range(40016, 40020)),
            (0, 40003, range(40000, 40004)),
        ):
            to = listen(pair.server)
            beyond = take_ports(client, 20, to=to, options=[own_range(first, last)])
            effect.compare(f"{first} to {last}: ports of twenty connect()", sorted(beyond.ports), document=[*within])
    with claim.effect("50000 to 50009 where ip_local_port_range is 40000 to 40019") as effect:
        twenty = give_ports(client, 20)
        outside = take_ports(client, 20, to=listener, options=[own_range(50000, 50009)])
        effect.compare("ports of twenty connect()", sorted(outside.ports), document=[*twenty])
    with claim.control("sockets without the option, ip_local_port_range 52000 to 52039") as control:
        forty = give_ports(client, 40, first=52000)
        control.expect(
            "ports of twenty connect()", sorted(take_ports(client, 20, to=listen(pair.server)).ports), [*forty[::2]]
        )


@pytest.mark.claim("limits.own-range-has-no-parity")
def test_own_range_has_no_parity(claim: ClaimRun, pair: Pair) -> None:
    client, both = pair.client, between(5, 45)
    if lacks(claim, client, own_range(50000, 50099), "IP_LOCAL_PORT_RANGE"):
        return
    one = both if since("own-range-has-no-parity") else 50
    with claim.effect("fifty sockets with IP_LOCAL_PORT_RANGE 50000 to 50099") as effect:
        connected = take_ports(client, 50, to=listen(pair.server), options=[own_range(50000, 50099)])
        effect.compare("even ports, by connect()", connected.evens(50), document=both, kernel=one)
    # Where ports are tried in steps of two, an odd number of them is rounded down, and it depends on where the search
    # begins whether the last is tried (__inet_hash_connect()). With three ports it always begins with the first.
    with claim.effect("twenty sockets with IP_LOCAL_PORT_RANGE 50200 to 50202") as effect:
        of_three = take_ports(client, 20, to=listen(pair.server), options=[own_range(50200, 50202)])
        tried = [50200, 50201, 50202] if since("own-range-has-no-parity") else [50200, 50201]
        effect.compare("ports of connect()", sorted(of_three.ports), document=[50200, 50201, 50202], kernel=tried)
    with claim.control("fifty sockets without the option, ip_local_port_range 51000 to 51099") as control:
        give_ports(client, 100, first=51000)
        connected = take_ports(client, 50, to=listen(pair.server))
        control.expect("even ports, by connect()", connected.evens(50), 50)


@pytest.mark.slow(20)  # needs the processors, so it begins while others only wait
@pytest.mark.claim("limits.search-costs")
def test_search_costs(claim: ClaimRun, pair: Pair) -> None:
    client, listener = pair.client, listen(pair.server)
    for host in (client, pair.server):
        give_ports(host, 8000)
    some, beside = [own_range(40000, 40049)], (pair.server, listen(client))

    def times(to: Listener, *options: Option) -> float:
        """How many times as long as one of the other host's, of whose range nothing is taken, a connect() takes."""
        return round(times_as_long(client, to, beside, options=options), 2)

    with alone():
        with claim.control("a range of 8000 ports, none of them taken") as control:
            connect_times(client, listen(pair.server))
            control.note("processor seconds a connect()", seconds(min(connect_times(client, listener))))
            control.expect("sockets of the client", count(client), at_most(100))
            control.expect("connect(), times as long", times(listener), at_most(2.5))
        with claim.effect("4000 of them, all of one parity, are taken towards one destination") as effect:
            leave_time_wait(client, listener, 4000, deadline=60)
            slower = at_least(3) if since("connect-searches-one-parity-first") else at_most(3)
            effect.compare("connect() to it, times as long", times(listener), document=at_least(3), kernel=slower)
        with claim.control("another destination, towards which none is taken") as control:
            control.expect("connect(), times as long", times(listen(pair.server)), at_most(2.5))
            control.note("processor seconds a connect() of the other host", seconds(min(connect_times(*beside))))
        if not refused(client, some[0]):
            with claim.control("the same destination, sockets with fifty ports of their own") as control:
                control.expect("connect(), times as long", times(listener, *some), at_most(2.5))
