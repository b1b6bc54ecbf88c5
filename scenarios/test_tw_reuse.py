"""tcp_tw_reuse: when connect() takes over the port of a connection in TIME_WAIT, and what of the old one can harm."""

from __future__ import annotations

import errno
import socket
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness.laws.kernel import running
from harness.laws.ranges import at_least, at_most, between
from harness.laws.serial import distance
from harness.observe import count, sockets
from harness.traffic import connect, drop, hold, listen
from harness.traffic.closing import leave_time_wait
from harness.traffic.forged import forge
from harness.traffic.raw import deliver
from harness.traffic.repair import set_timestamp, timestamp
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.phases import Phase
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Lan, Pair
    from harness.observe import Capture, Segment
    from harness.traffic import Listener
    from harness.traffic.connector import Attempt

REUSE = "net.ipv4.tcp_tw_reuse"
DELAY = "net.ipv4.tcp_tw_reuse_delay"
STAMPS = "net.ipv4.tcp_timestamps"
RANGE = "net.ipv4.ip_local_port_range"
PORT = 41000
NO_PORT = "EADDRNOTAVAIL"
# A TIME_WAIT of this age may be taken over on every kernel. Before 4.19 two whole seconds had to begin first.
OLD = 2.05
CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE = 5, 6
SECOND, MILLISECOND = 1_000_000_000, 1_000_000
BETWEEN_ISNS = 65535 + 2
PHASES = (0.05, 0.35, 0.65, 0.9)


def local_ports(host: Host, first: int = PORT, number: int = 1) -> None:
    """Leave a host so many ports to connect from. None must be bound: connect() passes over those that once were."""
    host.sysctl[RANGE] = f"{first} {first + number - 1}"


def dial(host: Host, listener: Listener) -> Attempt:
    """connect() from whatever port the kernel finds; one that finds none has failed by now."""
    attempt = connect(host, listener)[0]
    if attempt.result == NO_PORT:
        attempt.socket.close()
    return attempt


def outcome(attempt: Attempt) -> str:
    """How connect() has ended up to now."""
    attempt.settle()
    return attempt.result


def gets_a_port(host: Host, listener: Listener) -> bool:
    """Whether connect() finds a port, where the only one is in TIME_WAIT."""
    return dial(host, listener).result != NO_PORT


def grow_old(seconds: float = OLD) -> None:
    """Let what is in TIME_WAIT grow older."""
    moment = time.monotonic() + seconds
    until(lambda: time.monotonic() >= moment, deadline=seconds + 60, what=f"{seconds} s to pass")


class Ends(NamedTuple):
    """Both ends of a connection."""

    client: socket.socket
    server: socket.socket

    @property
    def port(self) -> int:
        """The client's."""
        port: int = self.client.getsockname()[1]
        return port


def open_connection(client: Host, listener: Listener) -> Ends:
    """A connection, accepted; over a reused port if there is no other."""
    attempt = connect(client, listener, wait=True, deadline=20)[0]
    assert attempt.result == "connected", attempt.result
    return Ends(attempt.socket, listener.accept(deadline=20)[0])


def read(connection: socket.socket) -> bytes:
    """What can be read now."""
    try:
        return connection.recv(65536)
    except BlockingIOError:
        return b""


def say(ends: Ends, words: bytes) -> None:
    """The client says something that the server reads."""
    ends.client.sendall(words)
    heard = b""

    def all_heard() -> bool:
        nonlocal heard
        heard += read(ends.server)
        return len(heard) >= len(words)

    until(all_heard, what="what the client said", deadline=20)
    assert heard == words


def has_ended(connection: socket.socket) -> bool:
    """Whether the other side has closed."""
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False


def close(ends: Ends) -> None:
    """The client closes, then the server."""
    ends.client.close()
    until(lambda: has_ended(ends.server), what="the client's FIN", deadline=20)
    ends.server.close()


def in_state(host: Host, state: str, port: int) -> int:
    """How many connections from or to a port of the client's a host has in a state."""
    return sum(port in (one.local[1], one.remote[1]) for one in sockets(host, f"state {state}", family=host.family))


def wait_for_time_wait(host: Host, port: int) -> None:
    """Until the connection from this port is in TIME_WAIT."""
    until(lambda: in_state(host, "time-wait", port), what=f"port {port} in TIME-WAIT", deadline=20)


def speak_and_leave(client: Host, listener: Listener, port: int, words: bytes) -> None:
    """A connection from a port, over which the client says something and that it leaves in TIME_WAIT."""
    local_ports(client, port)
    ends = open_connection(client, listener)
    say(ends, words)
    close(ends)
    wait_for_time_wait(client, port)


def last(segments: list[Segment], flag: str = "") -> Segment:
    """The last segment with a flag."""
    return [segment for segment in segments if flag in segment.flags][-1]


# default


@pytest.mark.claim("tw-reuse.default")
def test_default(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    server, *clients = lan(4).hosts
    default = "2" if running() >= "4.18" else "0"
    loopback = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}[server.family]
    listeners = {}
    for client in clients:
        local_ports(client)
        listeners[client] = {
            "cable": listen(server),
            "loopback address": listen(client, port=8001, address=loopback),
            "own address, through lo": listen(client, port=8002),
        }
        for listener in listeners[client].values():
            leave_time_wait(client, listener)
    untouched, one, zero = clients

    def takes_over(client: Host) -> dict[str, bool]:
        return {name: gets_a_port(client, listener) for name, listener in listeners[client].items()}

    with claim.effect("a fresh network namespace") as effect:
        documented = "1" if running() >= "3.7" else "0"
        effect.compare("tcp_tw_reuse, said to be 0", untouched.sysctl[REUSE], document="0", kernel=default)
        effect.compare(
            "tcp_tw_reuse, said to be 1 since 3.7", untouched.sysctl[REUSE], document=documented, kernel=default
        )
    grow_old()
    with claim.effect("what the default does with a TIME_WAIT of 2 s") as effect:
        effect.compare(
            "which it lets connect() take over",
            takes_over(untouched),
            document={"cable": False, "loopback address": False, "own address, through lo": False},
            # tcp_twsk_unique() looks at the addresses and at what the socket was bound to, not at the route.
            kernel={"cable": False, "loopback address": default == "2", "own address, through lo": False},
        )
    with claim.control("set to 1, and to 0") as control:
        one.sysctl[REUSE] = 1
        control.expect("taken over with 1", takes_over(one), dict.fromkeys(listeners[one], True))
        zero.sysctl[REUSE] = 0
        control.expect("taken over with 0", takes_over(zero), dict.fromkeys(listeners[zero], False))


# after-one-second


@dataclass(frozen=True)
class Law:
    """When a TIME_WAIT may be taken over: once a clock has counted more than so many units since it was entered.

    tcp_twsk_unique(). In milliseconds, with the number in tcp_tw_reuse_delay, since 6.14 (19ce8cd30465, ca6a6f93867a).
    Before, in whole seconds of the monotonic clock, more than none, since 4.19 (cca9bab1b72c); before that in those of
    the wall clock, more than one.
    """

    clock: int
    unit: int
    more_than: int

    @classmethod
    def of(cls, host: Host) -> Law:
        """The running kernel's, at a host."""
        if DELAY in host.sysctl:
            return cls(time.CLOCK_MONOTONIC, MILLISECOND, int(host.sysctl[DELAY]))
        if running() >= "4.19":
            return cls(CLOCK_MONOTONIC_COARSE, SECOND, 0)
        return cls(CLOCK_REALTIME_COARSE, SECOND, 1)

    def phase(self) -> float:
        """How far into its second the clock is, in seconds."""
        return time.clock_gettime_ns(self.clock) % SECOND / SECOND

    def now(self) -> int:
        """The clock, in its units."""
        return time.clock_gettime_ns(self.clock) // self.unit


class Moment(NamedTuple):
    """Around one system call: the kernel's clock in units, and the time in seconds, before it and after it."""

    units: tuple[int, int]
    seconds: tuple[float, float]


class Try(NamedTuple):
    """One connect(), when it was made, and whether it got the port."""

    when: Moment
    taken: bool


@dataclass
class Trial:
    """One TIME_WAIT, entered at a phase of the kernel's second, and the connect() calls that try to take it over."""

    client: Host
    listener: Listener
    phase: float
    patience: float = 6.0
    law: Law = field(init=False)
    ends: Ends = field(init=False)
    entered: Moment | None = None
    entered_at: float = 0.0
    tries: list[Try] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.law = Law.of(self.client)
        self.ends = open_connection(self.client, self.listener)
        self.ends.client.close()
        until(lambda: has_ended(self.ends.server), what="the client's FIN")

    def step(self) -> bool:
        """Enter TIME_WAIT if it is time, or try once more; whether this has come to its end."""
        if self.entered is None:
            if self.phase <= self.law.phase() < self.phase + 0.05:
                self.entered_at = self.law.phase()
                # The server's FIN arrives within the call.
                self.entered = self._timed(self.ends.server.close)
            return False
        attempt = self._try()
        # Near the moment the tries follow each other at once, so that one falls into the last unit and one behind it.
        while not attempt.taken and 0 < self._remaining(self.entered) < 30 * MILLISECOND:
            attempt = self._try()
        return attempt.taken or attempt.when.seconds[0] - self.entered.seconds[1] > self.patience

    def _try(self) -> Try:
        got: list[bool] = []
        when = self._timed(lambda: got.append(gets_a_port(self.client, self.listener)))
        self.tries.append(Try(when, got[0]))
        return self.tries[-1]

    def _remaining(self, entered: Moment) -> int:
        """Nanoseconds until it must be taken over."""
        last_refusal = entered.units[1] + self.law.more_than
        return (last_refusal + 1) * self.law.unit - time.clock_gettime_ns(self.law.clock)

    def _timed(self, call: Callable[[], object]) -> Moment:
        units, seconds = self.law.now(), time.monotonic()
        call()
        return Moment((units, self.law.now()), (seconds, time.monotonic()))

    @property
    def taken_at(self) -> float | None:
        """The age, in seconds, at which it was taken over."""
        assert self.entered is not None
        return next((round(t.when.seconds[1] - self.entered.seconds[0], 4) for t in self.tries if t.taken), None)

    def taken_younger_than(self, seconds: float) -> bool:
        """Whether it was taken over before it certainly was that old."""
        return self.taken_at is not None and self.taken_at < seconds

    def refused_older_than(self, seconds: float) -> bool:
        """Whether it was refused when it certainly was older."""
        assert self.entered is not None
        return any(not t.taken and t.when.seconds[0] - self.entered.seconds[1] > seconds for t in self.tries)

    def against_the_law(self) -> list[str]:
        """The tries that ended otherwise than the kernel's clock says; none is judged that it does not decide."""
        assert self.entered is not None
        odd = []
        for when, taken in self.tries:
            at_most_passed = when.units[1] - self.entered.units[0]
            at_least_passed = when.units[0] - self.entered.units[1]
            if (taken and at_most_passed <= self.law.more_than) or (not taken and at_least_passed > self.law.more_than):
                odd.append(f"{'taken' if taken else 'refused'} after {at_least_passed} to {at_most_passed} units")
        return odd


def watch(trials: list[Trial]) -> None:
    """Let all trials come to their ends, side by side."""
    left = list(trials)

    def all_ended() -> bool:
        left[:] = [trial for trial in left if not trial.step()]
        return not left

    until(all_ended, deadline=90, what="every TIME_WAIT to be taken over, or given up")


@pytest.mark.slow(6)
@pytest.mark.claim("tw-reuse.after-one-second")
def test_after_one_second(claim: ClaimRun, lan: Callable[..., Lan]) -> None:
    server, *clients = lan(5).hosts
    listener = listen(server)
    for client in clients:
        client.sysctl[REUSE] = 1
        local_ports(client)
    with claim.effect("TIME_WAIT entered at four phases of the kernel's second") as effect:
        trials = [Trial(client, listener, phase) for client, phase in zip(clients, PHASES, strict=True)]
        watch(trials)
        seconds = Law.of(server).unit == SECOND
        for trial in trials:
            where = f"entered {trial.phase} s into the second"
            effect.premise(f"{where}: tries against the kernel's clock", trial.against_the_law(), [])
            effect.compare(
                f"{where}: taken over before it was 1 s old",
                trial.taken_younger_than(1.0),
                document=False,
                kernel=seconds and running() >= "4.19",
            )
            effect.compare(
                f"{where}: refused when it was older than 1 s",
                # 1 ms, the unit of the newest kernels' clock, and a tick, of up to 10 ms, of the older ones'.
                trial.refused_older_than(1.011),
                document=False,
                kernel=seconds and running() < "4.19",
            )
        ages = [(trial.entered_at, trial.taken_at or 0.0) for trial in trials]
        effect.series("age when it was taken over, by the phase in which it was entered", ages, unit="s")
    listener = listen(server)
    with claim.control("without tcp_tw_reuse; and with another tcp_tw_reuse_delay where the kernel has it") as control:
        for client, delay in zip(clients[1:], (1, 300, 1700), strict=True):
            if DELAY in client.sysctl:
                client.sysctl[DELAY] = delay
        delayed = [Trial(client, listener, 0.1) for client in clients[1:] if DELAY in client.sysctl]
        clients[0].sysctl[REUSE] = 0
        never = Trial(clients[0], listener, 0.9, patience=2.2)
        watch([never, *delayed])
        control.expect("with 0: age when it was taken over", never.taken_at, None)
        control.expect("with 0: refused older than 2 s", never.refused_older_than(2.0), True)
        for trial in delayed:
            delay = trial.law.more_than
            control.expect(f"delay {delay} ms: tries against it", trial.against_the_law(), [])
            control.expect(f"delay {delay} ms: age when it was taken over", trial.taken_at, at_least(delay / 1000))
        control.note("ages in s when taken over, by delay in ms", {t.law.more_than: t.taken_at for t in delayed})
    with claim.control("a client that binds the port itself is held to neither") as control:
        source, listener = (clients[0].ip, PORT + 1), listen(server)
        leave_time_wait(clients[0], listener, source=source)
        bound = connect(clients[0], listener, source=source, wait=True)[0]
        control.expect("with 0, at once", bound.result, "connected")


# needs-timestamps


@pytest.mark.claim("tw-reuse.needs-timestamps")
def test_needs_timestamps(claim: ClaimRun, pair: Pair) -> None:
    listener = listen(pair.server)
    client, server = pair.client, pair.server
    client.sysctl[REUSE] = 1
    was = {"both ends": (1, 1), "on, later off": (1, 1), "off, later on": (0, 0)}
    if running() >= "4.13":  # before, the knob is the machine's: both ends have the same
        was |= {"off at the client": (0, 1), "off at the server": (1, 0)}
    ports = dict(zip(was, range(PORT, PORT + len(was)), strict=True))

    def stamps(of_client: int, of_server: int) -> None:
        client.sysctl[STAMPS], server.sysctl[STAMPS] = of_client, of_server

    def taken_over(what: str) -> bool:
        local_ports(client, ports[what])
        return gets_a_port(client, listener)

    for what, knobs in was.items():
        stamps(*knobs)
        local_ports(client, ports[what])
        leave_time_wait(client, listener)
    grow_old()
    with claim.effect("a TIME_WAIT of 2 s whose connection had timestamps") as effect:
        stamps(1, 1)
        effect.compare("taken over", taken_over("both ends"), document=True)
        effect.compare("TWRecycled", effect.delta(client).TcpExt.TWRecycled, document=1)
    with claim.control("the same, but the connection had none") as control:
        for what in was:
            if what.startswith("off"):
                control.expect(f"taken over; {what}", taken_over(what), False)
    with claim.control("what counts is the old connection's timestamps, not the new one's") as control:
        stamps(0, 0)
        control.expect("taken over; on then, off since", taken_over("on, later off"), True)


# outbound-only


@pytest.mark.claim("tw-reuse.outbound-only")
def test_outbound_only(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    values = (0, 1, 2) if running() >= "4.18" else (0, 1)
    listener, own = listen(server), listen(client, port=8000)
    local_ports(client)

    def incoming(value: int, phase: Phase) -> dict[str, object]:
        """A client comes back over the port whose last connection the server has in TIME_WAIT."""
        server.sysctl[REUSE] = value
        leave_time_wait(client, listener, closer="server")
        before = phase.delta(server)
        again = dial(client, listener)
        until(lambda: outcome(again) != "pending", what="connect() to end")
        moved = phase.delta(server)
        seen = {name: moved[name] - before[name] for name in ("TcpExt.TWRecycled", "Tcp.PassiveOpens")}
        (accepted,) = listener.accept()
        left = in_state(server, "time-wait", PORT)
        again.socket.close()
        until(lambda: has_ended(accepted), what="the client's FIN")
        accepted.close()
        return {"connect()": again.result, "TIME_WAIT left": left, **seen}

    with claim.effect("incoming: the server closed first, and the client comes back") as effect:
        seen = {}
        for value in values:
            local_ports(client, PORT + value)
            seen[value] = incoming(value, effect)
        expected = {"connect()": "connected", "TIME_WAIT left": 0, "TcpExt.TWRecycled": 0, "Tcp.PassiveOpens": 1}
        for value in values:
            effect.compare(f"with tcp_tw_reuse {value} at the server", seen[value], document=expected)
    with claim.control("outgoing: the same server as a client, whose port is in TIME_WAIT") as control:
        local_ports(server)
        leave_time_wait(server, own)
        grow_old()
        for value, wanted in ((0, False), (1, True)):
            server.sysctl[REUSE] = value
            control.expect(f"taken over with {value}", gets_a_port(server, own), wanted)
        control.expect("TWRecycled", control.delta(server).TcpExt.TWRecycled, 1)


# initial-sequence


@pytest.mark.claim("tw-reuse.initial-sequence")
def test_initial_sequence(claim: ClaimRun, pair: Pair) -> None:
    client, listener = pair.client, listen(pair.server)
    client.sysctl[REUSE] = 1
    packets = claim.capture(client)

    def first_number_beyond_the_last(port: int) -> int:
        sent = packets.segments(direction="out", sport=port)
        fin, syn = last(sent, "F"), last(sent, "S")
        assert fin.time < syn.time
        return distance(fin.next_seq, syn.seq)

    ports = {size: PORT + size for size in (0, 1, 20_000)}
    for size, port in ports.items():
        speak_and_leave(client, listener, port, b"x" * size)
    grow_old()
    with claim.effect("the port is taken over, after connections that sent 0, 1 and 20000 bytes") as effect:
        for size, port in ports.items():
            local_ports(client, port)
            assert open_connection(client, listener).port == port
            effect.compare(
                f"after {size} bytes and a FIN: the new first number less the old next one",
                first_number_beyond_the_last(port),
                document=BETWEEN_ISNS,
            )
    with claim.control("the port is free: the server closed first, so no TIME_WAIT is the client's") as control:
        local_ports(client, PORT + 2)
        leave_time_wait(client, listener, closer="server")
        open_connection(client, listener)
        beyond = first_number_beyond_the_last(PORT + 2)
        control.note("the new first number less the old next one", beyond)
        control.expect("65537 beyond", beyond == BETWEEN_ISNS, False)


# newer-timestamp


@pytest.mark.claim("tw-reuse.newer-timestamp")
def test_newer_timestamp(claim: ClaimRun, pair: Pair) -> None:
    client, listener = pair.client, listen(pair.server)
    client.sysctl[REUSE] = 1
    packets = claim.capture(client)

    def newer_by(port: int) -> int:
        """By how much the new connection's first timestamp is above the old one's last."""
        sent = packets.segments(direction="out", sport=port)
        syn = last(sent, "S")
        old = last([segment for segment in sent if segment.time < syn.time])
        assert old.tsval is not None
        assert syn.tsval is not None
        return distance(old.tsval, syn.tsval)

    local_ports(client, PORT, 12)
    leave_time_wait(client, listener, 12)
    local_ports(client, PORT + 12)
    ahead = open_connection(client, listener)
    set_timestamp(ahead.client, timestamp(ahead.client) + 2**30)
    close(ahead)
    grow_old()
    with claim.effect("twelve ports are taken over") as effect:
        local_ports(client, PORT, 12)
        taken = connect(client, listener, 12, wait=True)
        effect.premise("TWRecycled", effect.delta(client).TcpExt.TWRecycled, 12)
        by = [newer_by(attempt.port) for attempt in taken]
        # 4.10 gives a connection an offset of its own (95a22caee396), but not one that takes over a TIME_WAIT:
        # 00355fa5bb89 of 4.11 mended that.
        offsets_lost = "4.10" <= running() < "4.11"
        newer = sum(ticks > 0 for ticks in by)
        lost = at_most(11) if offsets_lost else 12
        effect.compare("timestamps newer than the old one's", newer, document=12, kernel=lost)
        effect.note("newer by, in ticks of the timestamp clock", by)
    with claim.control("the old connection's clock was 2^30 ticks ahead: nothing checks that it is newer") as control:
        control.note("TCP_REPAIR", "TCP_TIMESTAMP set the old connection's clock ahead")
        local_ports(client, PORT + 12)
        control.expect("taken over", connect(client, listener, wait=True)[0].result, "connected")
        control.expect("newer by, in ticks", newer_by(PORT + 12), between(-(2**30), -(2**29)))


# any-old-enough


@pytest.mark.claim("tw-reuse.any-old-enough")
def test_any_old_enough(claim: ClaimRun, pair: Pair) -> None:
    client, listener, elsewhere = pair.client, listen(pair.server, 100), listen(pair.server)
    born: dict[int, float] = {}
    local_ports(client, PORT, 256)
    while len(born) < 256:
        for local, _ in leave_time_wait(client, listener, 8):
            born[local[1]] = time.monotonic()
        grow_old(0.03)
    local_ports(client, PORT + 1000, 128)
    leave_time_wait(client, listener, 32)
    grow_old()
    local_ports(client, PORT, 256)
    client.sysctl[REUSE] = 1
    with claim.effect("256 ports, all in TIME_WAIT, of ages from 2 to 3 s or more: 16 calls of connect()") as effect:
        now = time.monotonic()
        taken = [attempt.port for attempt in connect(client, listener, 16, wait=True)]
        effect.compare("TIME_WAITs taken over", effect.delta(client).TcpExt.TWRecycled, document=16)
        ages = [round(now - born[port], 2) for port in taken]
        effect.compare("the youngest taken over, in s", min(ages), document=at_least(1.0))
        effect.compare("different ages among them", len(set(ages)), document=at_least(2))
        # The search begins a few ports behind where the last one ended (__inet_hash_connect()): if they were drawn,
        # one step in sixteen would be as short as that. Every 10 s the beginning is drawn anew.
        steps = [(then - port) % 256 for port, then in pairwise(taken)]
        short = sum(0 < step <= 16 for step in steps)
        effect.compare("steps of at most 16 ports, of 15", short, document=at_most(6), kernel=at_least(12))
        effect.note("ports taken over", taken)
        effect.note("their ages in s", ages)
    with claim.effect("128 ports, 32 of them in TIME_WAIT and 96 free: 30 calls of connect()") as effect:
        local_ports(client, PORT + 1000, 128)
        connect(client, listener, 30, wait=True)
        # A port is sought, not a TIME_WAIT; one that may be taken over is merely no obstacle.
        recycled = effect.delta(client).TcpExt.TWRecycled
        effect.compare("TIME_WAITs taken over", recycled, document=30, kernel=at_most(27))
    local_ports(client, PORT, 256)
    with claim.effect("ports in TIME_WAIT, and connect() to another port of the server") as effect:
        there = count(client, "state time-wait")
        connect(client, elsewhere, 8, wait=True)
        effect.compare("TIME_WAITs taken over", effect.delta(client).TcpExt.TWRecycled, document=8, kernel=0)
        effect.premise("TIME_WAITs gone", there - count(client, "state time-wait"), 0)
    with claim.control("256 ports, without tcp_tw_reuse") as control:
        client.sysctl[REUSE] = 0
        results = connect(client, listener, 16).results()
        control.expect("results", dict(results), {NO_PORT: 16})


# old-data-rejected


@pytest.mark.claim("tw-reuse.old-data-rejected")
def test_old_data_rejected(claim: ClaimRun, pair: Pair) -> None:
    client, server, listener = pair.client, pair.server, listen(pair.server)
    client.sysctl[REUSE] = 1
    packets = claim.capture(server)
    for port in (PORT, PORT + 1):
        speak_and_leave(client, listener, port, b"old data")
    (old_frame,) = (p.frame for p in packets.packets() if (s := p.segment()) and s.sport == PORT and s.payload)
    (old,) = (s for s in packets.segments(sport=PORT) if s.payload)
    grow_old()

    def from_client(port: int) -> Segment:
        """What the client has sent last; what was delivered for it since counts as well."""
        return last(packets.segments(sport=port))

    local_ports(client, PORT)
    new = open_connection(client, listener)
    now = from_client(PORT)
    with claim.effect("a segment of the old connection arrives at the new one") as effect:
        deliver(server, old_frame)
        until(lambda: effect.delta(server).TcpExt.PAWSEstab >= 1, what="the segment to be judged")
        effect.compare("PAWSEstab", effect.delta(server).TcpExt.PAWSEstab, document=1)
        effect.compare("what the server reads", read(new.server), document=b"")
    with claim.effect("one with the number that is expected next, as after 4 GB, and the old timestamp") as effect:
        effect.premise("the number", now.next_seq, last(packets.segments(flags="S", sport=PORT)).next_seq)
        deliver(server, forge(server, now, "PA", seq=now.next_seq, tsval=old.tsval, payload=b"old data"))
        until(lambda: effect.delta(server).TcpExt.PAWSEstab >= 1, what="the segment to be judged")
        effect.compare("PAWSEstab", effect.delta(server).TcpExt.PAWSEstab, document=1)
        effect.compare("what the server reads", read(new.server), document=b"")
        say(new, b"new data")
    with claim.control("the same with a timestamp of now") as control:
        now = from_client(PORT)
        deliver(server, forge(server, now, "PA", seq=now.next_seq, tsval=now.tsval, payload=b"old data"))
        control.expect("what the server reads", until(lambda: read(new.server)), b"old data")
        control.expect("PAWSEstab", control.delta(server).TcpExt.PAWSEstab, 0)
    with claim.control("the old timestamp, and a new connection without the option") as control:
        client.sysctl[STAMPS] = 0
        local_ports(client, PORT + 1)
        bare = open_connection(client, listener)
        now = from_client(PORT + 1)
        control.expect("timestamps", now.tsval, None)
        deliver(server, forge(server, now, "PA", seq=now.next_seq, tsval=old.tsval, payload=b"old data"))
        control.expect("what the server reads", until(lambda: read(bare.server)), b"old data")


# stale-rst-kills


@pytest.mark.claim("tw-reuse.stale-rst-kills")
def test_stale_rst_kills(claim: ClaimRun, pair: Pair) -> None:
    client, server, listener = pair.client, pair.server, listen(pair.server)
    client.sysctl[REUSE] = 1
    packets = {host: claim.capture(host) for host in (client, server)}
    late, to_server, inside, exact, bare, untouched = ports = range(PORT, PORT + 6)
    for port in ports:
        speak_and_leave(client, listener, port, b"old data")
    old_data = {s.sport: p.frame for p in packets[server].packets() if (s := p.segment()) and s.payload}
    from_client = {port: last(packets[client].segments(sport=port)) for port in ports}
    from_server = {port: last(packets[client].segments(dport=port)) for port in ports}
    # A segment of the old connection comes to the server again, who knows it no more and sends an RST.
    held = hold(client, "R", dport=late)
    deliver(server, old_data[late])
    until(lambda: held.count == 1, what="the server's RST")
    grow_old()
    new = {}
    for port in ports:
        local_ports(client, port)
        new[port] = open_connection(client, listener)

    def rst(port: int, beyond: int = 0, *, stamped: bool = True) -> bytes:
        """From the server, `beyond` what the client expects next, with the old connection's timestamp or without."""
        like = last(packets[client].segments(dport=port))
        stamp = from_server[port].tsval if stamped else None
        return forge(client, like, "R", seq=like.next_seq + beyond, tsval=stamp)

    with claim.effect("RSTs of the old connection arrive at the new one") as effect:
        held.release()
        effect.compare("the server's, sent in TIME_WAIT", fate(new[late]), document="ECONNRESET", kernel="open")
        like = from_client[to_server]
        deliver(server, forge(server, like, "R", seq=like.next_seq, tsval=like.tsval))
        effect.compare("one from the client's end", fate(new[to_server]), document="ECONNRESET", kernel="open")
        effect.premise("challenge ACKs", challenge_acks(effect, client) + challenge_acks(effect, server), 0)
    with claim.effect("such RSTs, but with the number that is expected next") as effect:
        deliver(client, rst(exact))
        effect.compare("with the old timestamp", fate(new[exact]), document="ECONNRESET")
        deliver(client, rst(bare, stamped=False))
        effect.compare("without timestamp", fate(new[bare]), document="ECONNRESET")
        effect.premise("PAWSEstab", effect.delta(client).TcpExt.PAWSEstab, 0)
    with claim.effect("such an RST, with a number that is in the window but not the next") as effect:
        challenged = running() >= "3.6"
        deliver(client, rst(inside, 1000))
        seen = fate(new[inside])
        effect.compare("with the old timestamp", seen, document="ECONNRESET", kernel="open" if challenged else None)
        effect.premise("challenge ACKs", challenge_acks(effect, client), int(challenged))
    with claim.control("no RST, and data with the old timestamp") as control:
        like = last(packets[client].segments(dport=untouched))
        stamp = from_server[untouched].tsval
        deliver(client, forge(client, like, "PA", seq=like.next_seq, tsval=stamp, payload=b"old data"))
        control.expect("the connection", fate(new[untouched]), "open")
        control.expect("PAWSEstab", control.delta(client).TcpExt.PAWSEstab, 1)


def challenge_acks(phase: Phase, host: Host) -> int:
    """How many a host has sent (282f23c6ee34, "tcp: implement RFC 5961 3.2", 3.6)."""
    return phase.delta(host).TcpExt.TCPChallengeACK if running() >= "3.6" else 0


def fate(ends: Ends) -> str:
    """What the applications learn when they go on talking: an error, or nothing, and the connection is open."""
    try:
        say(ends, b"question")
        ends.server.sendall(b"answer")
        assert until(lambda: read(ends.client), what="the answer", deadline=20) == b"answer"
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "open"


# last-ack-peer-reset


class OldPeer:
    """The server's end of a connection that the client has closed, in LAST-ACK: no ACK reaches it any more.

    `end` is its socket. An application that has closed it is told nothing any more; one that has only shut down its
    sending side can still ask.
    """

    def __init__(self, pair: Pair, listener: Listener, packets: Capture, port: int, *, closes: bool) -> None:
        self.port = port
        self._server = pair.server
        self._packets = packets
        local_ports(pair.client, port)
        ends = open_connection(pair.client, listener)
        say(ends, b"data")
        ends.client.close()
        until(lambda: has_ended(ends.server), what="the client's FIN", deadline=20)
        self._lost = drop(pair.server, "A", sport=port)
        self.end = ends.server
        self.end.shutdown(socket.SHUT_WR)
        if closes:
            self.end.close()
        wait_for_time_wait(pair.client, port)

    @property
    def in_last_ack(self) -> bool:
        """Whether it still is."""
        return in_state(self._server, "last-ack", self.port) == 1

    def hear_again(self) -> None:
        """Let ACKs pass."""
        self._lost.lift()

    def wait_for_end(self) -> None:
        """Let it leave LAST-ACK, and the connection that comes after it be heard."""
        until(lambda: not self.in_last_ack, what="the end of LAST-ACK", deadline=60)
        self._lost.lift()

    def resets(self) -> list[Segment]:
        """The RSTs that it was sent."""
        return [s for s in self._packets.segments(direction="in", sport=self.port) if "R" in s.flags]

    def reset_answers(self) -> str:
        """The flags of what it had sent last before the RST came."""
        (reset,) = self.resets()
        return last([s for s in self._packets.segments(direction="out", dport=self.port) if s.time < reset.time]).flags

    def error(self) -> str:
        """SO_ERROR by name; "0" if there is none."""
        number = self.end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return errno.errorcode[number] if number else "0"


@pytest.mark.slow(8)
@pytest.mark.claim("tw-reuse.last-ack-peer-reset")
def test_last_ack_peer_reset(claim: ClaimRun, pair: Pair) -> None:
    client, server, listener = pair.client, pair.server, listen(pair.server)
    client.sysctl[REUSE] = 1
    packets = claim.capture(server)
    dialled: list[Attempt] = []

    def old_peer(number: int, *, closes: bool) -> OldPeer:
        return OldPeer(pair, listener, packets, PORT + number, closes=closes)

    def reuse(peer: OldPeer) -> None:
        local_ports(client, peer.port)
        dialled.append(dial(client, listener))

    with claim.control("the port is not reused") as control:
        unharmed = old_peer(0, closes=False)
        control.expect("in LAST-ACK", unharmed.in_last_ack, True)
        unharmed.hear_again()
        unharmed.wait_for_end()
        control.expect("RSTs", unharmed.resets(), [])
        control.expect("SO_ERROR", unharmed.error(), "0")
        control.expect("recv()", read(unharmed.end), b"")
    kept, closed = (old_peer(1 + closes, closes=bool(closes)) for closes in (0, 1))
    kept_too, closed_too = (old_peer(3 + closes, closes=bool(closes)) for closes in (0, 1))
    grow_old()
    with claim.effect("the port is reused, and the old peer's FIN comes before the new SYN arrives") as effect:
        syns = [drop(server, "S", sport=peer.port) for peer in (kept, closed)]
        for peer in (kept, closed):
            reuse(peer)
        for peer, syn in zip((kept, closed), syns, strict=True):
            peer.wait_for_end()
            syn.lift()
            effect.compare("RSTs for the old peer", len(peer.resets()), document=1)
            effect.compare("what the RST answers", peer.reset_answers(), document="FA")
        effect.compare("SO_ERROR of the application that kept the socket", kept.error(), document="ECONNRESET")
        effect.premise("recv()", read(kept.end), b"")
    with claim.effect("the port is reused, and the new SYN arrives before the old peer's FIN") as effect:
        for peer in (kept_too, closed_too):
            reuse(peer)
            peer.wait_for_end()
            effect.compare("RSTs for the old peer", len(peer.resets()), document=1)
            # A SYN in LAST-ACK is answered with an ACK of the old numbers, which the new connection's end resets.
            effect.premise("what the RST answers", peer.reset_answers(), "A")
        effect.compare("SO_ERROR of the application that kept the socket", kept_too.error(), document="ECONNRESET")
        effect.premise("recv()", read(kept_too.end), b"")
    with claim.control("the new connections") as control:
        for attempt in dialled:
            until(lambda: outcome(attempt) != "pending", what="connect() to end", deadline=30)
        control.expect("results", [attempt.result for attempt in dialled], ["connected"] * 4)
