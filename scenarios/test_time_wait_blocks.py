"""What TIME-WAIT keeps its four-tuple from, and how it answers the other side's FIN."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

import pytest

from harness.evidence import drawn, seconds, state
from harness.instruments.closing import lose_last_ack
from harness.instruments.lifetimes import seconds_left
from harness.laws import before, since
from harness.laws.ranges import at_most, between
from harness.observe import states_between
from harness.traffic import connect, listen
from harness.traffic.closing import leave_time_wait
from harness.traffic.ports import give_ports
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair
    from harness.observe.sockets import Endpoint

TIMESTAMPS = "net.ipv4.tcp_timestamps"
# Where the kernel has knobs for the machine only, of the two hosts it is the server that has them: so the server is
# the side that closes first, and connects.


def bound(host: Host, address: Endpoint) -> str:
    """What bind() without SO_REUSEADDR says."""
    with host.socket() as binding:
        try:
            binding.bind(address)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
    return "bound"


@pytest.mark.claim("time-wait.blocks-four-tuple")
def test_blocks_four_tuple(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    forgotten = since("bind-forgets-time-wait") and before("bind-remembers-time-wait")
    for timestamps in (0, 1):
        closer.sysctl[TIMESTAMPS] = timestamps
        give_ports(closer, 28232, first=32768)
        listener, other = listen(peer), listen(peer)
        ((chosen, _),) = leave_time_wait(closer, listener)
        ((bound_before, _),) = leave_time_wait(closer, listener, source=(closer.ip, 0))
        ((_, free),) = leave_time_wait(closer, listener, closer="server")
        give_ports(closer, first=chosen[1])

        with claim.effect(f"the four-tuple of a TIME-WAIT, tcp_timestamps {timestamps}") as effect:
            refused = "bound" if forgotten else "EADDRINUSE"
            effect.compare("bind()", bound(closer, bound_before), document="EADDRINUSE", kernel=refused)
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
            effect.premise("what is there of it then", left, ["ESTAB" if timestamps else "TIME-WAIT"])
        with claim.control(f"other four-tuples of the same local ports, tcp_timestamps {timestamps}") as control:
            control.expect("connect()", connect(closer, other, wait=True)[0].result, "connected")
            result = connect(closer, other, source=bound_before, wait=True)[0].result
            control.expect("connect() after bind() with SO_REUSEADDR", result, "connected")
        with claim.control(f"a four-tuple whose other side has the TIME-WAIT, tcp_timestamps {timestamps}") as control:
            control.expect("bind()", bound(closer, free), "bound")


@pytest.mark.claim("time-wait.reacks-fin")
def test_reacks_fin(claim: ClaimRun, pair: Pair) -> None:
    closer, peer = pair.server, pair.client
    at_closer, at_peer = claim.capture(closer), claim.capture(peer)
    undisturbed = listen(peer)
    ((local, _),) = leave_time_wait(closer, undisturbed)
    with claim.effect(
        "the last ACK is lost, and the repeated FIN arrives when the timer has run for a second"
    ) as effect:
        last = lose_last_ack(closer, listen(peer))
        port = last.remote[1]
        effect.premise("the other side", state(last.states), ["LAST-ACK"])
        until(lambda: seconds_left(closer, port) < 59, deadline=30, what="the timer to run for a second")
        earlier = seconds(seconds_left(closer, port))
        last.repeat()
        later, read = seconds(seconds_left(closer, port)), time.time()
        answer = last.answers(at_peer)[1]
        effect.compare("answer to the repeated FIN", answer.flags, document="A")
        fin = at_peer.segments(direction="out", sport=port, flags="FA")[0]
        effect.compare("what it acknowledges", drawn(answer.ack), document=fin.next_seq)
        effect.compare("timer: later after it than before", later > earlier, document=True)
        answered = at_closer.segments(direction="out", dport=port, flags="A")[-1].time
        effect.compare("timer when it was answered", seconds(later + read - answered), document=between(59.9, 60.5))
        effect.note("timer before and after", (earlier, later))
        effect.premise("error at the other side", last.error, "no error")
    with claim.control("a connection closed at the same time whose last ACK was not lost") as control:
        control.expect("timer", seconds(seconds_left(closer, undisturbed.port)), at_most(59))
        fins = at_closer.segments(direction="in", sport=undisturbed.port, dport=local[1], flags="FA")
        control.expect("FINs of the other side", len(fins), 1)
