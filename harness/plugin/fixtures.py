"""The fixtures: labs, for IPv4 and IPv6, and the record of a claim."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING

import pytest

from harness.plugin import witness
from harness.plugin.claims import record_of
from harness.plugin.order import needs_own_kernel
from harness.simulated import is_simulated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.claims.record import ClaimRun
    from harness.lab import BehindNat, Lab, Lan, Pair

FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}

# The labs of a test, for --tcp-hold.
LABS: pytest.StashKey[list[Lab]] = pytest.StashKey()


@pytest.fixture(params=tuple(FAMILIES.values()), ids=tuple(FAMILIES))
def family(request: pytest.FixtureRequest) -> socket.AddressFamily:
    """The address family of the test's lab: each test runs for IPv4 and for IPv6.

    `@pytest.mark.ipv4_only("why")` leaves IPv6 out, `ipv6_only` IPv4.
    """
    chosen: socket.AddressFamily = request.param
    return chosen


@pytest.fixture
def lab(request: pytest.FixtureRequest, family: socket.AddressFamily) -> Iterator[Lab]:
    """An empty lab of the test's family, closed when the test ends."""
    from harness.lab import Lab
    from harness.lab.machine import turns

    alone = needs_own_kernel(request.node)
    with Lab(family) as empty:
        if alone:
            turns.alone()
        labs = request.node.stash.setdefault(LABS, [])
        labs.append(empty)
        record = record_of(request.node)
        if record is not None:
            record.watch(empty)
        with witness.watching(request.node, empty):
            yield empty
        labs.remove(empty)


@pytest.fixture
def pair(lab: Lab) -> Pair:
    """A client and a server on one cable, ready."""
    from harness.lab import pair

    return pair(lab)


@pytest.fixture
def lan(lab: Lab) -> Callable[..., Lan]:
    """`lan(n)`: n hosts on one switch, ready."""
    from harness.lab import lan

    return partial(lan, lab)


@pytest.fixture
def behind_nat(lab: Lab) -> Callable[..., BehindNat]:
    """`behind_nat(n=2)`: n clients behind a masquerading gateway and a server outside, ready."""
    from harness.lab import behind_nat

    return partial(behind_nat, lab)


@pytest.fixture
def claim(request: pytest.FixtureRequest) -> ClaimRun:
    """The record of the claim that the test's marker names: `claim.effect(…)`, `claim.control(…)`."""
    record = record_of(request.node)
    if record is None:
        pytest.fail('the claim fixture needs the marker: @pytest.mark.claim("group.id")', pytrace=False)
    return record


@pytest.fixture
def long_form(request: pytest.FixtureRequest) -> bool:
    """Whether what waits for more than a minute is to wait as long as the document has it, not in a shorter form.

    So it is where time is simulated, and with --tcp-full-size.
    """
    return is_simulated() or bool(request.config.getoption("tcp_full_size"))


def restrict_family(metafunc: pytest.Metafunc) -> None:
    """Parametrise a test that is marked ipv4_only or ipv6_only with that family alone."""
    if "family" not in metafunc.fixturenames:
        return
    for name, family in (("ipv4", socket.AF_INET), ("ipv6", socket.AF_INET6)):
        marker = metafunc.definition.get_closest_marker(f"{name}_only")
        if marker is None:
            continue
        if not (marker.args or marker.kwargs.get("reason")):
            raise pytest.Collector.CollectError(f"{metafunc.definition.nodeid}: {name}_only needs its reason")
        metafunc.definition.add_marker(pytest.mark.parametrize("family", [family], ids=[name], indirect=True))
