"""What is lost on the way: segments, the answers of a peer, connections that a firewall has forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.diagnosis.findings import Certainty, Finding, reason
from harness.diagnosis.thresholds import THRESHOLDS
from harness.incident.sockets import Direction, taker
from harness.laws.timers import syn_waits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.diagnosis.findings import Reason
    from harness.diagnosis.view import View
    from harness.incident.facts import Source
    from harness.incident.sockets import Connection, Flow

LOSS, UNANSWERED, SILENT, FORGOTTEN = "loss", "connect-unanswered", "silent-peer", "flow-forgotten"
RETRANSMITTED, SENT, OF_SYNS, TWICE = "Tcp.RetransSegs", "Tcp.OutSegs", "TcpExt.TCPSynRetrans", "TcpExt.TCPDSACKRecv"
# States in which data, or a FIN, may wait for its acknowledgement.
SENDING = ("ESTAB", "CLOSE-WAIT", "FIN-WAIT-1", "LAST-ACK", "CLOSING")


def loss(view: View) -> Iterator[Finding]:
    """Segments that have to be sent again, by their share of those sent. SYNs are another matter, and left out."""
    alike = view.counted_alike(RETRANSMITTED, SENT, OF_SYNS)
    if alike is None:
        return
    now, (again, sent, syns) = alike
    data = max(again - syns, 0)
    share = data / max(sent, 1)
    if not (THRESHOLDS["loss"].reached(share) and THRESHOLDS["loss-enough"].reached(data)):
        return
    when = "between the two samples" if now else "since boot, which says nothing of now"
    reasons = [reason(f"{data} segments were sent again for {sent} sent, {share:.1%}, SYNs apart ({syns}), {when}")]
    spurious = _spurious(view, data)
    reasons += spurious
    reasons += [_where(flow) for flow in repeating(view)[:3]]
    what = "Segments are lost on the way, and sent again"
    if spurious:
        what = "Segments are late or out of order on the way, and are sent again although they arrive"
    sure = THRESHOLDS["loss"].sure if now else Certainty.POSSIBLE
    at = repeating(view)
    place = view.towards(at[0].peer) if len(at) == 1 and at[0].peer.address else view.somewhere("the network")
    yield Finding(LOSS, what, sure, place, tuple(reasons))


def _spurious(view: View, data: int) -> list[Reason]:
    """Whether the other side had already what was sent again."""
    alike = view.counted_alike(TWICE)
    if alike and THRESHOLDS["spurious"].reached(alike[1][0] / data):
        return [reason(f"of them {alike[1][0]} were there already, as the other side says (TCPDSACKRecv)")]
    return []


def _where(flow: Flow) -> Reason:
    whom = flow.peer if flow.direction is Direction.OUT else flow.local
    return reason(
        f"{flow.retransmitting} of {flow.sockets} connections with {whom} repeat themselves, one "
        f"{flow.most_retransmits} times ({flow.state})",
        flow.source,
    )


def repeating(view: View) -> list[Flow]:
    """The flows that repeat data, those with the most such sockets first."""
    both = [*view.timed(Direction.OUT, *SENDING), *view.timed(Direction.IN, *SENDING)]
    return sorted((flow for flow in both if flow.retransmitting), key=lambda flow: -flow.retransmitting)


def connect_unanswered(view: View) -> Iterator[Finding]:
    """A destination that answers no SYN: neither with a SYN-ACK nor with RST."""
    for flow in view.timed(Direction.OUT, "SYN-SENT"):
        if THRESHOLDS["unanswered-syn"].reached(flow.most_retransmits) and flow.peer.address:
            reasons = [
                reason(f"{flow.sockets} sockets are in SYN-SENT towards {flow.peer}", flow.source),
                reason(
                    f"{flow.retransmitting} have sent their SYN again, one {flow.most_retransmits} times", flow.source
                ),
                *_patience(view),
                *_established_with(view, flow),
            ]
            what = f"{flow.peer} does not answer: SYNs to it are sent again and again, and connect() waits"
            yield Finding(UNANSWERED, what, THRESHOLDS["unanswered-syn"].sure, view.towards(flow.peer), tuple(reasons))


def _patience(view: View) -> list[Reason]:
    """How long connect() goes on by the law of this kernel."""
    found = view.sysctls("net.ipv4.tcp_syn_retries")
    if found is None or view.kernel is None:
        return []
    linear = view.sysctl("net.ipv4.tcp_syn_linear_timeouts") or 0
    seconds = sum(syn_waits(found[0][0], linear, view.kernel))
    return [
        reason(f"tcp_syn_retries is {found[0][0]}: a connect() without a timeout goes on for {seconds:.0f} s", found[1])
    ]


def _established_with(view: View, flow: Flow) -> list[Reason]:
    there = [each for each in view.timed(Direction.OUT, "ESTAB") if each.peer == flow.peer]
    if not there:
        return []
    many = sum(each.sockets for each in there)
    return [reason(f"{many} connections to it are established: it did answer before, or answers some", there[0].source)]


def silent_peer(view: View) -> Iterator[Finding]:
    """A peer that acknowledges nothing any more, on connections that are established."""
    for flow in repeating(view):
        if not THRESHOLDS["silent-repeats"].reached(flow.most_retransmits) or _forgotten(view, flow):
            continue
        if flow.direction is Direction.OUT and flow.peer.address:
            what = f"{flow.peer} has fallen silent: what is sent to it on established connections is not acknowledged"
            sure = THRESHOLDS["silent-repeats"].sure
            yield Finding(SILENT, what, sure, view.towards(flow.peer), (_where(flow), *_give_up(view)))
        elif _many_clients(view, flow):
            what = f"Many clients of {flow.local} have fallen silent in the middle of their connections"
            place = view.towards(flow.local)
            listener = taker(view.space.listeners, flow.local)
            place = view.at(listener) if listener else place
            yield Finding(SILENT, what, THRESHOLDS["silent-share"].sure, place, (_where(flow), *_give_up(view)))


def _many_clients(view: View, flow: Flow) -> bool:
    """Whether so many peers of a service are silent as do not just go away."""
    same = [each for each in view.timed(Direction.IN, "ESTAB") if each.local == flow.local]
    silent, every = sum(each.retransmitting for each in same), sum(each.sockets for each in same)
    enough = THRESHOLDS["silent-few"].reached(silent)
    first = bool(same) and flow is max(same, key=lambda each: each.retransmitting)
    return enough and first and THRESHOLDS["silent-share"].reached(silent / max(every, 1))


def _give_up(view: View) -> list[Reason]:
    found = view.sysctls("net.ipv4.tcp_retries2")
    if found is None:
        return []
    return [
        reason(f"tcp_retries2 is {found[0][0]}: by the default of 15 a connection is given up after 924.6 s", found[1])
    ]


def flow_forgotten(view: View) -> Iterator[Finding]:
    """Connections that were idle and are answered no more, while their destination answers others: a firewall."""
    for flow in repeating(view):
        idle = _forgotten(view, flow)
        if not idle:
            continue
        longest, source = max(idle, key=lambda pair: pair[0])
        reasons = [
            reason(
                f"{len(idle)} connections to {flow.peer} had been idle, one for {longest:.0f} s, when data was sent",
                source,
            ),
            _where(flow),
            *_alive(view, flow),
            *_short_memory(view),
        ]
        what = (
            f"A firewall on the way to {flow.peer} has forgotten connections that were idle: what is sent on them is "
            f"not answered, although {flow.peer} is there"
        )
        sure = Certainty.LIKELY if _alive(view, flow) else Certainty.POSSIBLE
        yield Finding(FORGOTTEN, what, sure, view.towards(flow.peer), tuple(reasons))


def _forgotten(view: View, flow: Flow) -> list[tuple[float, Source]]:
    """The silent connections of an outgoing flow that were idle before: for how many seconds, and where it stands."""
    if flow.direction is not Direction.OUT:
        return []
    same = [each for each in view.notable if each.peer == flow.peer and each.local.address == flow.local.address]
    idle = [(idle_before(each), each.source) for each in same if _is_silent(each)]
    return [(seconds, source) for seconds, source in idle if THRESHOLDS["forgotten-idle"].reached(seconds)]


def _is_silent(connection: Connection) -> bool:
    timer = connection.timer
    return timer is not None and timer.kind == "on" and THRESHOLDS["silent-repeats"].reached(timer.retransmits)


def idle_before(connection: Connection) -> float:
    """For how long nothing had come, in seconds, when the data was first sent that is not acknowledged.

    The time since then is the sum of the timeouts that have passed, each twice the one before (`rto` is the present
    one), and what has passed of the present one.
    """
    timer, info = connection.timer, connection.info
    heard, rto = info.get("lastrcv", info.get("lastack")), info.get("rto")
    if timer is None or heard is None or rto is None:
        return 0.0
    passed = sum(rto / 2**n for n in range(1, timer.retransmits + 1)) + max(rto - timer.seconds * 1000, 0)
    return float(max(heard - passed, 0.0)) / 1000


def _alive(view: View, flow: Flow) -> list[Reason]:
    """What says that the destination is there: connections to it that repeat nothing, or came about lately."""
    there = [each for each in view.timed(Direction.OUT) if each.peer == flow.peer and each.state != "SYN-SENT"]
    well = sum(each.sockets - each.retransmitting for each in there)
    return [reason(f"{well} other connections to it repeat nothing", there[0].source)] if well else []


def _short_memory(view: View) -> list[Reason]:
    """What this machine's own firewall forgets sooner than it may."""
    found = view.sysctls("net.netfilter.nf_conntrack_tcp_timeout_established")
    if found is None or THRESHOLDS["nat-idle"].reached(found[0][0]):
        return []
    least = THRESHOLDS["nat-idle"].at
    return [
        reason(f"this machine's own firewall forgets after {found[0][0]} s; RFC 5382 asks for {least:.0f}", found[1])
    ]
