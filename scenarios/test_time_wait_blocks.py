"""What TIME-WAIT keeps its four-tuple, and its local port, from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.evidence import state
from harness.laws import before, since
from harness.observe import states_between
from harness.traffic import connect, listen
from harness.traffic.closing import leave_time_wait
from harness.traffic.ports import bind_alone, give_ports
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair

TIMESTAMPS = "net.ipv4.tcp_timestamps"
# Where the kernel has knobs for the machine only, of the two hosts it is the server that has them: so the server is
# the side that closes first, and connects.


@pytest.mark.claim("time-wait.blocks-four-tuple")
def test_blocks_four_tuple(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    forgotten = since("bind-forgets-time-wait") and before("bind-remembers-time-wait")
    for timestamps in (0, 1):
        closer.sysctl[TIMESTAMPS] = timestamps
        give_ports(closer, 28232, first=32768)
        listener = listen(peer)
        ((chosen, _),) = leave_time_wait(closer, listener)
        ((bound_before, _),) = leave_time_wait(closer, listener, source=(closer.ip, 0))
        ((_, free),) = leave_time_wait(closer, listener, closer="server")
        give_ports(closer, first=chosen[1])

        with claim.effect(f"the four-tuple of a TIME-WAIT, tcp_timestamps {timestamps}") as effect:
            refused = "bound" if forgotten else "EADDRINUSE"
            effect.compare("bind()", bind_alone(closer, bound_before), document="EADDRINUSE", kernel=refused)
            result = connect(closer, listener, wait=True)[0].result
            effect.compare("connect() when no port but this is left", result, document="EADDRNOTAVAIL")
            result = connect(closer, listener, source=bound_before, wait=True)[0].result
            effect.compare(
                "connect() after bind() with SO_REUSEADDR, as the old one",
                result,
                document="EADDRNOTAVAIL",
                kernel="connected" if timestamps else "EADDRNOTAVAIL",
            )
            left = state(states_between(closer, bound_before, listener.address))
            kernel = ["ESTAB" if timestamps else "TIME-WAIT"]
            effect.compare("what is there of it then", left, document=["TIME-WAIT"], kernel=kernel)
        with claim.control(f"a four-tuple whose other side has the TIME-WAIT, tcp_timestamps {timestamps}") as control:
            control.expect("bind()", bind_alone(closer, free), "bound")
            result = connect(closer, listener, source=free, wait=True)[0].result
            control.expect("connect() after bind() with SO_REUSEADDR", result, "connected")


@pytest.mark.slow(65)
@pytest.mark.claim("time-wait.free-again")
def test_free_again(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    closer.sysctl[TIMESTAMPS] = 0  # with them bind() and connect() need not wait: time-wait.blocks-four-tuple
    listener = listen(peer)
    ((chosen, _),) = leave_time_wait(closer, listener)
    ((bound_before, _),) = leave_time_wait(closer, listener, source=(closer.ip, 0))
    give_ports(closer, first=chosen[1])

    def again() -> list[str]:
        """What connect() says of either four-tuple: the one whose port it chooses, and the one whose port is bound."""
        return [connect(closer, listener, source=source)[0].result for source in (None, bound_before)]

    with claim.control("while TIME-WAIT lasts") as control:
        control.expect("connect(), by itself and after bind()", again(), ["EADDRNOTAVAIL"] * 2)

    def over() -> bool:
        return not any(states_between(closer, local, listener.address) for local in (chosen, bound_before))

    with claim.effect("TIME-WAIT is over") as effect:
        until(over, deadline=150, what="TIME-WAIT to be over")
        for what, source in (("by itself", None), ("after bind() with SO_REUSEADDR", bound_before)):
            (attempt,) = connect(closer, listener, source=source, wait=True)
            effect.compare(f"connect() {what}", attempt.result, document="connected")
            local = chosen if source is None else bound_before
            left = state(states_between(closer, local, listener.address))
            effect.compare(f"the four-tuple, {what}", left, document=["ESTAB"])


@pytest.mark.claim("time-wait.blocks-local-port")
def test_blocks_local_port(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    closer.sysctl[TIMESTAMPS] = 0
    listener, other = listen(peer), listen(peer)
    ((chosen, _),) = leave_time_wait(closer, listener)
    ((bound_before, _),) = leave_time_wait(closer, listener, source=(closer.ip, 0))
    give_ports(closer, first=chosen[1])
    with claim.control("its local port, to the same destination: the four-tuple of the TIME-WAIT") as control:
        control.expect("connect() when no port but this is left", connect(closer, listener)[0].result, "EADDRNOTAVAIL")
        result = connect(closer, listener, source=bound_before)[0].result
        control.expect("connect() after bind() with SO_REUSEADDR", result, "EADDRNOTAVAIL")
    with claim.effect("its local port, to another destination") as effect:
        for what, source in (("when no port but this is left", None), ("after bind() with SO_REUSEADDR", bound_before)):
            result = connect(closer, other, source=source, wait=True)[0].result
            effect.compare(f"connect() {what}", result, document="EADDRNOTAVAIL", kernel="connected")
        for local in (chosen, bound_before):
            left = state(states_between(closer, local, listener.address))
            effect.premise("the TIME-WAIT of that port", left, ["TIME-WAIT"])
