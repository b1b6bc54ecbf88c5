"""tcp_tw_recycle, which 4.12 took away: what it did to TIME-WAIT, and to clients that share an address.

On kernels that have it, it is a knob of the whole machine up to 4.10, so that the scenarios need a kernel of their own.
On later kernels they show that it is gone, and that the clients it shut out are let in.
"""

from __future__ import annotations

import itertools
import select
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from harness.errors import NotReady
from harness.lab import BehindNat, isolation
from harness.lab.netns import Namespace
from harness.lab.program import Ran, run
from harness.laws.kernel import running
from harness.laws.ranges import at_least, at_most, between
from harness.laws.serial import distance, older
from harness.observe import count, sockets
from harness.traffic import RawPeer, connect, echo, listen
from harness.traffic.clock_shift import ClockShift
from harness.traffic.clocks import ask, come_and_go, connect_at
from harness.traffic.closing import leave_time_wait
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.phases import Phase
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lab, Pair
    from harness.lab.machine import MachineSysctls
    from harness.lab.sysctl import Sysctls
    from harness.observe import Capture, Segment
    from harness.traffic import Listener, RawConnection

RECYCLE = "net.ipv4.tcp_tw_recycle"
TIMESTAMPS = "net.ipv4.tcp_timestamps"
# 4396e46187ca "tcp: remove tcp_tw_recycle"
OLD = running() < "4.12"
# What document 003 has one put into /etc/sysctl.conf, as it stands there: in one line.
ONE_LINE = (
    "net.ipv4.tcp_syncookies = 1 net.ipv4.tcp_tw_reuse = 1 net.ipv4.tcp_tw_recycle = 1 net.ipv4.tcp_fin_timeout = 30\n"
)
FOUR_LINES = ONE_LINE.replace(" net.", "\nnet.")
# What a client's clock reads, and how far that of another is behind, in ticks.
CLOCK = 3_000_000_000
BEHIND = 1_000_000
# TCP_TIMEWAIT_LEN and TCP_PAWS_MSL (include/net/tcp.h), in seconds.
MINUTE = 60
# 3.5 times the least RTO, less a tick or so.
LEAST = 0.69
# How late a look or a program may come on a machine that is busy, in seconds.
LATE = 1.5


def lacks_recycle(claim: ClaimRun, host: Host) -> bool:
    """Whether the kernel has no such knob; the run is then settled by what it says to that."""
    if RECYCLE in host.sysctl:
        return False
    claim.not_applicable("the kernel has no tcp_tw_recycle", shown=host.run("sysctl", RECYCLE, check=False).stderr)
    return True


def refused(phase: Phase, host: Host) -> int:
    """SYNs dropped for their timestamp; kernels that never do that have no such counter."""
    return phase.delta(host).as_dict().get("TcpExt.PAWSPassive", 0)


def answered(phase: Phase, host: Host, connections: list[RawConnection], clock: int) -> int:
    """How many SYNs of raw peers whose clocks read `clock` the host answers with a SYN-ACK; it drops the others."""
    before = refused(phase, host)

    def replied() -> int:
        return sum(bool(connection.replies()) for connection in connections)

    for connection in connections:
        ask(connection, clock)
    until(lambda: replied() + refused(phase, host) - before == len(connections), what="each SYN answered or dropped")
    assert all(str(reply.flags) == "SA" for connection in connections for reply in connection.replies())
    return replied()


def connected(phase: Phase, client: Host, listener: Listener, n: int = 3) -> int:
    """How many of n real clients are connected; the SYNs of the others are dropped."""
    before = refused(phase, listener.host)
    attempts = connect(client, listener, n)
    until(
        lambda: attempts.connected + refused(phase, listener.host) - before >= n, what=f"{n} SYNs answered or dropped"
    )
    made = attempts.connected
    for one in listener.accept(made):
        one.close()
    attempts.close()
    return made


def lasted(host: Host, since: float) -> float:
    """Wait until no TIME-WAIT is left; the seconds since a moment before there was one."""
    until(lambda: not count(host, "state time-wait"), deadline=2 * MINUTE, what="TIME-WAIT to end")
    return time.monotonic() - since


def rto(pair: Pair, listener: Listener) -> float:
    """The retransmission timeout that the server's kernel has computed for a connection of the client's, in seconds."""
    (client,) = connect(pair.client, listener, wait=True).sockets
    listener.accept()
    port = client.getsockname()[1]
    (found,) = sockets(pair.server, f"state established dport = :{port}")
    assert found.info is not None
    return found.info.rto


class Settings:
    """Where `sysctl -p` is typed: on the server, or in the machine's namespace if only that has the knob."""

    def __init__(self, server: Host) -> None:
        self._file = server.lab.directory / "sysctl.conf"
        self._namespace = server.namespace
        self.knobs: Sysctls | MachineSysctls = server.sysctl
        if RECYCLE in server.sysctl and RECYCLE not in server.sysctl.names():
            self._namespace = Namespace(isolation.world().machine)
            self.knobs = server.lab.machine_sysctl
        for knob in (line.split(" = ")[0] for line in FOUR_LINES.splitlines()):
            if knob in self.knobs:
                self.knobs[knob] = self.knobs[knob]  # the machine's are put back when the lab closes

    def apply(self, text: str) -> Ran:
        """Write the file and let the real sysctl read it."""
        self._file.write_text(text)
        return run(self._namespace, ["sysctl", "-p", str(self._file)], check=False)


@pytest.mark.claim("tw-recycle.removed")
def test_removed(claim: ClaimRun, pair: Pair) -> None:
    settings = Settings(pair.server)
    with claim.effect("the knob, and sysctl -p of the four settings of document 003, a line each") as effect:
        effect.compare("the kernel has tcp_tw_recycle", RECYCLE in pair.server.sysctl, document=OLD)
        ran = settings.apply(FOUR_LINES)
        effect.note("what sysctl prints", ran.stdout + ran.stderr)
        effect.compare("settings reported as errors", ran.stderr.count("sysctl: "), document=0 if OLD else 1)
        effect.compare("of tcp_tw_recycle", "tcp_tw_recycle" in ran.stderr, document=not OLD)
        effect.compare("exit status other than 0", ran.returncode != 0, document=not OLD)
    with claim.control("the same file without that line") as control:
        ran = settings.apply("".join(line for line in FOUR_LINES.splitlines(True) if RECYCLE not in line))
        control.expect("errors reported", (ran.returncode, ran.stderr), (0, ""))
    with claim.control("the file as document 003 prints it, in one line: a value of tcp_syncookies") as control:
        settings.knobs["net.ipv4.tcp_syncookies"] = 0
        settings.knobs["net.ipv4.tcp_fin_timeout"] = 60
        ran = settings.apply(ONE_LINE)
        # The kernel reads one number and leaves the rest of the line (kernel/sysctl.c, do_proc_dointvec()).
        control.expect("errors reported", (ran.returncode, ran.stderr), (0, ""))
        control.expect("tcp_syncookies", settings.knobs["net.ipv4.tcp_syncookies"], "1")
        control.expect("tcp_fin_timeout, which it was to set to 30", settings.knobs["net.ipv4.tcp_fin_timeout"], "60")


@pytest.mark.claim("tw-recycle.default-off")
def test_default_off(claim: ClaimRun, pair: Pair) -> None:
    if lacks_recycle(claim, pair.server):
        return
    with claim.effect("a kernel that was told nothing") as effect:
        effect.compare("tcp_tw_recycle", pair.server.sysctl[RECYCLE], document="0")
    with claim.control("set to 1") as control:
        pair.server.sysctl[RECYCLE] = 1
        control.expect("tcp_tw_recycle", pair.server.sysctl[RECYCLE], "1")


@pytest.mark.claim("tw-recycle.lifetime")
@pytest.mark.slow(70 if OLD else 1)
def test_lifetime(claim: ClaimRun, pair: Pair) -> None:
    if lacks_recycle(claim, pair.server):
        return
    listener = listen(pair.server)
    with claim.effect("tcp_tw_recycle 1: the server closes first") as effect:
        pair.server.sysctl[RECYCLE] = 1
        wanted = 3.5 * rto(pair, listener)
        effect.compare("3.5 RTO, in seconds", wanted, document=between(LEAST, 0.85))
        began = time.monotonic()
        leave_time_wait(pair.client, listener, closer="server")
        seconds = lasted(pair.server, began)
        # A timer of that length is up to an eighth late since 4.8 (500462a9de65 "timers: Switch to a non-cascading
        # wheel"); before 4.1 TIME-WAITs were reaped in slots of an eighth of a second or so.
        effect.compare("TIME-WAIT lasts, in seconds", seconds, document=between(LEAST, wanted * 1.25 + LATE))
    with claim.control("tcp_tw_recycle 0: the server closes first") as control:
        pair.server.sysctl[RECYCLE] = 0
        began = time.monotonic()
        leave_time_wait(pair.client, listener, closer="server")
        seconds = lasted(pair.server, began)
        control.expect("TIME-WAIT lasts, in seconds", seconds, between(MINUTE - 1, MINUTE * 1.25))


@pytest.mark.claim("tw-recycle.needs-timestamps")
def test_needs_timestamps(claim: ClaimRun, pair: Pair) -> None:
    if lacks_recycle(claim, pair.server):
        return
    listener = listen(pair.server)

    def leave() -> Callable[[], float]:
        """A TIME-WAIT of the server's; the function says how long it is still to last, in seconds, and 0 at its end."""
        ((local, remote),) = leave_time_wait(pair.client, listener, closer="server")

        def left() -> float:
            found = [s for s in sockets(pair.server, "state time-wait") if (s.local, s.remote) == (local, remote)]
            return found[0].timer.expires if found and found[0].timer else 0.0

        return left

    pair.server.sysctl[RECYCLE] = 1
    # The other way round, the SYN without timestamps would be dropped: 60 s long one is remembered, and it has none.
    with claim.control("tcp_tw_recycle 1, tcp_timestamps 0: the server closes first") as control:
        pair.server.sysctl[TIMESTAMPS] = 0
        left = leave()
        control.expect("TIME-WAIT is to last, in seconds", left(), between(MINUTE - LATE, MINUTE * 1.25))
        began = time.monotonic()
        until(lambda: time.monotonic() - began > 2, what="more than twice as long as with timestamps")
        control.expect("2 s later, in seconds", left(), between(MINUTE - 2 - 2 * LATE, MINUTE * 1.25))
    with claim.effect("tcp_tw_recycle 1, tcp_timestamps 1: the server closes first") as effect:
        pair.server.sysctl[TIMESTAMPS] = 1
        wanted = 3.5 * rto(pair, listener)
        left = leave()
        effect.compare("TIME-WAIT is to last, in seconds", left(), document=at_most(wanted + 0.05))
        began = time.monotonic()
        until(lambda: not left(), what="TIME-WAIT to end", deadline=2 * MINUTE)
        effect.compare("it lasts, in seconds", time.monotonic() - began, document=at_most(wanted * 1.25 + LATE))


def shift(client: Host, ticks: int) -> None:
    """Move a client's clock, which is otherwise that of all hosts here."""
    if running() >= "4.10":  # 95a22caee396 "tcp: randomize tcp timestamp offsets for each connection"; 2 says not to
        client.sysctl[TIMESTAMPS] = 2
    ClockShift(client, ticks)


def ahead_by(seen: Capture) -> int:
    """How far the clock of the last connection but one was ahead of that of the last, in ticks.

    There may be more: one that leaves no TIME-WAIT is replaced by leave_time_wait().
    """
    *_, one, other = {s.sport: s.tsval for s in seen.segments(flags="S")}.values()
    assert one is not None
    assert other is not None
    return distance(other, one)


@pytest.mark.claim("tw-recycle.nat-drops")
def test_nat_drops(claim: ClaimRun, behind_nat: Callable[..., BehindNat]) -> None:
    net = behind_nat(4)
    first, second, ahead, behind = net.clients
    server, listener = net.server, listen(net.server)
    peers = [RawPeer(net.gateway, client, beyond=server) for client in (first, second)]
    shift(ahead, BEHIND)
    shift(behind, -BEHIND)
    if OLD:
        server.sysctl[RECYCLE] = 1

    def new(n: int = 5) -> list[RawConnection]:
        return [peers[1].connection(listener) for _ in range(n)]

    with claim.effect("raw peers: one comes and goes, and another has a lower clock") as effect:
        come_and_go(peers[0].connection(listener), listener, CLOCK)
        replies = answered(effect, server, new(), CLOCK - BEHIND)
        effect.compare("of its 5 SYNs, answered", replies, document=0, kernel=0 if OLD else 5)
        effect.compare("PAWSPassive", refused(effect, server), document=5, kernel=5 if OLD else 0)
        if OLD:  # TCP_PAWS_WINDOW
            effect.premise("of 5 that are lower by 2, answered", answered(effect, server, new(), CLOCK - 2), 0)
            effect.premise("of 5 that are lower by 1, answered", answered(effect, server, new(), CLOCK - 1), 5)
    with claim.control("raw peers: another has a higher clock") as control:
        control.expect("of its 5 SYNs, answered", answered(control, server, new(), CLOCK + BEHIND), 5)
    with claim.effect("real clients: one comes and goes, and another has a clock that is behind") as effect:
        seen = claim.capture(server, port=listener.port)
        leave_time_wait(ahead, listener, closer="server")
        made = connected(effect, behind, listener, 1)
        effect.premise("ticks that its clock is behind", ahead_by(seen), between(BEHIND, 2 * BEHIND))
        effect.compare("connected", made, document=0, kernel=0 if OLD else 1)
        effect.compare("of 3 more, connected", connected(effect, behind, listener), document=0, kernel=0 if OLD else 3)
    with claim.control("real clients: the one whose clock is ahead again") as control:
        control.expect("of 3, connected", connected(control, ahead, listener), 3)
    if OLD:
        with claim.control("tcp_tw_recycle 0: the one whose clock is behind") as control:
            server.sysctl[RECYCLE] = 0
            control.expect("of 3, connected", connected(control, behind, listener), 3)


@pytest.mark.claim("tw-recycle.nat-drops")
def test_nat_drops_by_socket_option(claim: ClaimRun, behind_nat: Callable[..., BehindNat]) -> None:
    """The same with clocks that sockets were given. Since 4.10 connect() chooses others, at random: they take turns."""
    net = behind_nat()
    server, listener = net.server, listen(net.server)
    seen = claim.capture(server, port=listener.port)
    turns = itertools.cycle(zip(net.clients, (CLOCK, CLOCK - BEHIND), strict=True))
    made: dict[bool, list[bool]] = {True: [], False: []}
    remembered: int | None = None
    if OLD:
        server.sysctl[RECYCLE] = 1
    with claim.effect("two real clients in turns, until one has a lower timestamp than the other had") as effect:
        while not made[True]:
            client, clock = next(turns)
            let_in = come_and_leave(client, listener, clock)
            tsval = seen.segments(flags="S")[-1].tsval
            assert tsval is not None
            made[remembered is not None and older(tsval, remembered)].append(let_in)
            remembered = tsval
        effect.note("timestamps of the SYNs", [s.tsval for s in seen.segments(flags="S")])
        effect.compare("with a lower timestamp, connected", made[True], document=[False], kernel=[not OLD])
    with claim.control("those with a higher timestamp") as control:
        control.expect("connected", all(made[False]), True)


def come_and_leave(client: Host, listener: Listener, clock: int) -> bool:
    """Whether a real client can connect; the server closes first."""
    try:
        connecting = connect_at(client, listener, clock, deadline=LATE)
    except NotReady:
        return False
    listener.accept()[0].close()
    until(lambda: select.select([connecting], [], [], 0)[0], what="the server to close")
    connecting.close()
    return True


@pytest.mark.claim("tw-recycle.nat-keeps-timestamps")
def test_nat_keeps_timestamps(claim: ClaimRun, behind_nat: Callable[..., BehindNat]) -> None:
    net = behind_nat()
    router = plain_router(net.server.lab)

    def both_sides(net: BehindNat) -> tuple[list[Segment], list[Segment]]:
        """The segments of two clients' requests and answers, on the gateway's two interfaces."""
        inside, outside = (claim.capture(net.gateway, interface) for interface in net.gateway.interfaces)
        listener = listen(net.server, answer=echo)
        for client in net.clients:
            assert connect(client, listener, 3, wait=True).ask(b"what time is it?") == 3
        until(lambda: len(inside.segments()) == len(outside.segments()), what="all segments on both sides")
        return inside.segments(), outside.segments()

    def stamps(segments: list[Segment]) -> Counter[tuple[object, ...]]:
        """What makes a segment that one, but for addresses and ports: of two clients with one port one gets another."""
        return Counter((s.flags, s.payload, s.seq, s.ack, s.tsval, s.tsecr) for s in segments)

    def clients(segments: list[Segment], server: Host) -> set[str]:
        return {address for s in segments for address in (s.src, s.dst)} - {server.ip}

    with claim.effect("six connections of two clients through the masquerading gateway") as effect:
        inner, outer = both_sides(net)
        effect.compare("client addresses inside", clients(inner, net.server), document={c.ip for c in net.clients})
        rewritten = {net.gateway.address(interface="eth1")}
        effect.compare("client addresses outside", clients(outer, net.server), document=rewritten)
        effect.premise(
            "segments with timestamps, of 12 and more", sum(s.tsval is not None for s in inner), at_least(36)
        )
        effect.compare("segments whose TSval or TSecr differs", len(stamps(inner) - stamps(outer)), document=0)
    with claim.control("through a gateway that does not masquerade") as control:
        inner, outer = both_sides(router)
        control.expect("client addresses outside", clients(outer, router.server), {c.ip for c in router.clients})
        control.expect("segments whose TSval or TSecr differs", len(stamps(inner) - stamps(outer)), 0)


def plain_router(lab: Lab) -> BehindNat:
    """Two clients behind a gateway that leaves addresses as they are."""
    clients = lab.hosts("neighbour1", "neighbour2")
    gateway, server = lab.hosts("router", "neighbours-server")
    inside, outside = lab.switch(*clients, gateway), lab.link(gateway, server)
    lab.gateway(gateway, inside=inside, outside=outside, masquerade=False)
    lab.ready()
    return BehindNat(clients, gateway, server, inside, outside)


@pytest.mark.claim("tw-recycle.check-ends-with-time-wait")
@pytest.mark.slow(65 if OLD else 1)
def test_check_ends_with_time_wait(claim: ClaimRun, pair: Pair) -> None:
    if lacks_recycle(claim, pair.server):
        return
    server, listener = pair.server, listen(pair.server)
    peer, stranger = RawPeer(server, pair.client), RawPeer(server, pair.client)

    def let_in(phase: Phase, peer: RawPeer = peer) -> bool:
        return answered(phase, server, [peer.connection(listener)], CLOCK - BEHIND) == 1

    server.sysctl[RECYCLE] = 1
    with claim.effect("a client comes and goes; SYNs of its address with a lower timestamp follow") as effect:
        came = time.monotonic()
        come_and_go(peer.connection(listener), listener, CLOCK)
        effect.compare("answered while there is TIME-WAIT", let_in(effect), document=False)
        effect.premise("TIME-WAIT lasts, in seconds", lasted(server, came), at_most(1 + LATE))
        for seconds in (2, 10, 30, 55):
            until(lambda due=came + seconds: time.monotonic() >= due, deadline=MINUTE, what="the next SYN's time")  # type: ignore[misc]
            effect.compare(f"answered {seconds} s after the client", let_in(effect), document=True, kernel=False)
        effect.premise("SYNs of another address, answered", let_in(effect, stranger), True)
        until(lambda: let_in(effect), deadline=MINUTE, what="a SYN to be answered")
        # Whole seconds of the clock are compared, hence the one below.
        after = time.monotonic() - came
        effect.compare(
            "answered for the first time after, in seconds",
            after,
            document=at_most(3),
            kernel=between(MINUTE - 1, MINUTE + 1 + LATE),
        )
    with claim.control("tcp_tw_recycle 0: the same") as control:
        server.sysctl[RECYCLE] = 0
        come_and_go(peer.connection(listener), listener, CLOCK + BEHIND)
        control.expect("TIME-WAITs", count(server, "state time-wait"), 1)
        control.expect("answered", let_in(control), True)


@pytest.mark.claim("tw-recycle.hard-to-observe")
@pytest.mark.slow(70 if OLD else 1)
def test_hard_to_observe(claim: ClaimRun, pair: Pair) -> None:
    if lacks_recycle(claim, pair.server):
        return
    listener = listen(pair.server)

    def share(every: float, looks: int) -> float:
        """How often is one seen? Four looks a second, and a connection that comes and goes `every` so many seconds."""
        began, made, seen = time.monotonic(), 0, 0
        for look in range(looks):
            until(lambda due=began + look / 4: time.monotonic() >= due, deadline=MINUTE, what="the next look's time")  # type: ignore[misc]
            while made * every <= look / 4:
                leave_time_wait(pair.client, listener, closer="server")
                made += 1
            seen += bool(count(pair.server, "state time-wait"))
        return seen / looks

    with claim.effect("tcp_tw_recycle 1: a connection every 10 s") as effect:
        pair.server.sysctl[RECYCLE] = 1
        effect.compare("share of the looks that show a TIME-WAIT", share(10, 120), document=at_most(0.2))
        # It is the rate that decides: 0.7 s of each connection are seen.
        effect.premise("share with a connection every 0.5 s", share(0.5, 20), 1.0)
    with claim.control("tcp_tw_recycle 0: a connection every 10 s") as control:
        pair.server.sysctl[RECYCLE] = 0
        control.expect("share of the looks that show a TIME-WAIT", share(10, 60), 1.0)
