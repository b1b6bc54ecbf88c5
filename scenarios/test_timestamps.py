"""TCP timestamps: what the option carries, whose clock it shows, and which old segments it keeps out."""

from __future__ import annotations

import itertools
import selectors
import socket
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness.errors import UnknownSysctl
from harness.lab import Pair
from harness.lab import pair as make_pair
from harness.laws.kernel import running
from harness.laws.ranges import at_least, between, one_of
from harness.laws.serial import distance, older
from harness.observe import sockets
from harness.traffic import RawPeer, connect, hold, listen
from harness.traffic.clocks import ask, come_and_go, connect_at, finish, shake_hands
from harness.traffic.forged import checksummed
from harness.traffic.repair import Placed, place_both, sequence_numbers, timestamp, vanish
from harness.traffic.timestamps import stamp, stamps_of
from harness.waiting import until

if TYPE_CHECKING:
    from harness.claims.phases import Effect, Phase
    from harness.claims.record import ClaimRun
    from harness.lab import BehindNat, Host, Lab
    from harness.observe.capture import Capture
    from harness.traffic import Listener, RawConnection

TIMESTAMPS = "net.ipv4.tcp_timestamps"
RECYCLE = "net.ipv4.tcp_tw_recycle"
RTAX_FEATURE_TCP_USEC_TS = 1 << 4
CLOCK = 3_000_000_000
# PAWS compares as serial numbers do: what is 2^31 older is newer (include/net/tcp.h, tcp_paws_check()).
AGES = [2, 1000, 1_000_000, 2**31 - 1]
# In milliseconds since 4.13 (9a568de4818d "tcp: switch TCP TS option (RFC 7323) to 1ms clock"), in jiffies before.
TICKS_A_SECOND = [1000] if running() >= "4.13" else [100, 250, 300, 1000]


def switch_timestamps(pair: Pair, mode: int) -> None:
    """Set the knob for both hosts; where it is the whole machine's only the server may have it."""
    pair.server.sysctl[TIMESTAMPS] = mode
    if TIMESTAMPS in pair.client.sysctl:
        pair.client.sysctl[TIMESTAMPS] = mode


def talk(pair: Pair, rounds: int = 1) -> tuple[socket.socket, socket.socket]:
    """A real connection, on which the client asks and the server answers so many times; (client's, server's)."""
    listener = listen(pair.server)
    (client,) = connect(pair.client, listener, wait=True).sockets
    (server,) = listener.accept()
    for _ in range(rounds):
        client.send(b"question")
        assert read(server, 8) == b"question"
        server.send(b"answer!!")
        assert read(client, 8) == b"answer!!"
    return client, server


def read(connection: socket.socket, size: int) -> bytes:
    """Take so many bytes when they have come."""
    until(lambda: len(peek(connection, size)) == size, what=f"{size} bytes")
    return connection.recv(size)


def peek(connection: socket.socket, size: int = 100) -> bytes:
    """What can be read now, left where it is."""
    try:
        return connection.recv(size, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


def clock_of(host: Host) -> int:
    """What the kernel's timestamp clock reads: that of a socket that is not connected, which has no offset yet."""
    with host.socket() as unconnected:
        return timestamp(unconnected)


def carry_stamps(packets: Capture, port: int) -> list[bool]:
    """Of each segment from or to a port, whether it has the option."""
    return [segment.tsval is not None for segment in packets.segments(port=port)]


def as_option(packets: Capture, port: int) -> list[bool]:
    """Of each segment from or to a port, whether its frame has the option: kind 8, 10 bytes, two fields of 4."""
    seen = [(packet.frame, segment) for packet in packets.packets() if (segment := packet.segment())]
    return [
        struct.pack("!BBII", 8, 10, segment.tsval or 0, segment.tsecr or 0) in frame
        for frame, segment in seen
        if port in (segment.sport, segment.dport)
    ]


def check_advance(
    phase: Effect, packets: Capture, client: socket.socket, server: socket.socket, rates: list[int]
) -> None:
    """Compare how far TSval advances between two segments with how far the clock does, which has one of these rates."""
    spoken = []
    for wait in (0.0, 0.3):
        passed = time.monotonic() + wait
        until(lambda: time.monotonic() >= passed, what="time to pass")
        began = time.monotonic()
        client.send(b"question")
        spoken.append((began, time.monotonic()))
        read(server, 8)
    of_client = packets.segments(sport=client.getsockname()[1])
    first, second = [segment.tsval or 0 for segment in of_client if segment.payload == b"question"][-2:]
    advance = (second - first) % 2**32
    least, most = spoken[1][0] - spoken[0][1], spoken[1][1] - spoken[0][0]
    rate = min(rates, key=lambda rate: abs(rate - advance / most))
    phase.note("ticks a second", rate)
    wanted = between(int(least * rate) - 1, int(most * rate) + 1)
    phase.compare("the first field's advance, in ticks", advance, document=wanted)


def ask_for_microseconds(host: Host, to: Host) -> None:
    """A route whose connections have timestamps in microseconds: since 6.7 (3d44de9a10ea, 614e8316aa4c)."""
    (interface,) = host.interfaces.values()
    host.netlink().route(
        "replace",
        dst=to.ip,
        dst_len=32 if host.family == socket.AF_INET else 128,
        oif=interface.index,
        family=host.family,
        metrics={"features": RTAX_FEATURE_TCP_USEC_TS},
    )
    host.close_netlink()


@pytest.mark.claim("timestamps.option-layout")
def test_option_layout(claim: ClaimRun, pair: Pair) -> None:
    packets = claim.capture(pair.server)
    with claim.effect("a connection that speaks in turns") as effect:
        client, server = talk(pair, rounds=4)
        port = client.getsockname()[1]
        seen = packets.segments(port=port)
        options = as_option(packets, port)
        effect.compare("segments with kind 8, length 10, and two fields", options, document=[True] * len(options))
        effect.compare("the SYN's second field", seen[0].tsecr, document=0)
        last = {"in": 0, "out": 0}
        echoes, received = [], []
        for segment in seen:
            last[segment.direction] = segment.tsval or 0
            if segment.flags != "S":
                echoes.append(segment.tsecr)
                received.append(last["out" if segment.direction == "in" else "in"])
        effect.compare("the second field of all others: the last timestamp received", echoes, document=received)
    with claim.effect("two segments, some time apart") as effect:
        check_advance(effect, packets, client, server, TICKS_A_SECOND)
    if running() >= "6.7":
        with claim.effect("the same, by a route that asks for microseconds") as effect:
            for here, there in ((pair.client, pair.server), (pair.server, pair.client)):
                ask_for_microseconds(here, there)
            check_advance(effect, packets, *talk(pair), [1_000_000])
    with claim.effect("a segment ahead of its turn: its timestamp is not echoed, the last one in turn is") as effect:
        listener, peer = listen(pair.server), RawPeer(pair.server, pair.client)
        connection = peer.connection(listener)
        theirs = shake_hands(connection, CLOCK)
        connection.send("PA", b"later", seq=connection.seq + 10, options=stamp(CLOCK + 500, theirs))
        # RFC 7323, section 4.3; tcp_replace_ts_recent() wants seq <= rcv_wup.
        effect.premise("the second field of the answer", (stamps_of(connection.wait("A")) or ())[1:], (CLOCK,))
    with claim.control("net.ipv4.tcp_timestamps 0: the same connection") as control:
        switch_timestamps(pair, 0)
        client, _ = talk(pair, rounds=4)
        seen = packets.segments(port=client.getsockname()[1])
        control.expect("segments", len(seen), at_least(11))
        control.expect("segments with the option", sum(s.tsval is not None for s in seen), 0)


@pytest.mark.claim("timestamps.default-on")
def test_default_on(claim: ClaimRun, pair: Pair) -> None:
    packets = claim.capture(pair.server)

    def ss_says(port: int) -> bool:
        return "ts" in pair.server.run("ss", "-tinoH", f"dport = :{port}").stdout.split()

    with claim.effect("fresh hosts, nothing set") as effect:
        effect.compare(TIMESTAMPS, pair.server.sysctl[TIMESTAMPS], document="1")
        client, _ = talk(pair)
        port = client.getsockname()[1]
        seen = carry_stamps(packets, port)
        effect.compare("segments with timestamps", seen, document=[True] * len(seen))
        effect.compare("ss -tio shows ts", ss_says(port), document=True)
    with claim.control("the knob set to 0") as control:
        switch_timestamps(pair, 0)
        client, _ = talk(pair)
        port = client.getsockname()[1]
        control.expect("segments with timestamps", any(carry_stamps(packets, port)), False)
        control.expect("ss -tio shows ts", ss_says(port), False)


class Offset(NamedTuple):
    """How far the timestamp of a SYN is from the kernel's clock, in ticks; known to within `slack`."""

    ticks: int
    slack: int


def offset_towards(peer: RawPeer) -> Offset:
    """The offset of a new connection from the peer's host to the peer, who only looks at the SYN."""
    before = clock_of(peer.host)
    (attempt,) = connect(peer.host, (peer.address, 80))
    after = clock_of(peer.host)
    syn = until(lambda: [s for s in peer.poll() if s.sport == attempt.port], what="the SYN")[0]
    value, _ = stamps_of(syn) or (0, 0)
    return Offset((value - before) % 2**32, (after - before) % 2**32 + 2)


def different(offsets: list[Offset]) -> int:
    """How many of the offsets are not the same."""
    ordered = sorted(offset.ticks for offset in offsets)
    slack = max(offset.slack for offset in offsets)
    return 1 + sum(b - a > slack for a, b in itertools.pairwise(ordered))


def offsets_to_one_address(connections: int) -> object:
    """How many offsets so many connections to one address have in mode 1.

    One until 4.10 (0 ticks). Each its own in 4.10 (95a22caee396 "tcp: randomize tcp timestamp offsets for each
    connection"), not from 4.11 on (28ee1b746f49 "secure_seq: downgrade to per-host timestamp offsets"), and again since
    7.0 (165573e41f2f "tcp: secure_seq: add back ports to TS offset") and the stable releases that have it, of which
    those of 5.15 and 6.6 are not known here.
    """
    kernel = running()
    with_ports = [("6.1.191", "6.2"), ("6.12.94", "6.13"), ("6.18.17", "6.19"), ("6.19.7", "6.20"), ("4.10", "4.11")]
    if kernel >= "7.0" or any(first <= kernel < end for first, end in with_ports):
        return connections
    return one_of(1, connections) if kernel.release[:2] in ((5, 15), (6, 6)) else 1


@pytest.mark.claim("timestamps.modes")
def test_modes(claim: ClaimRun, pair: Pair) -> None:
    peers = [RawPeer(pair.client, pair.server) for _ in range(3)]
    randomised = running() >= "4.10"
    with claim.effect("1: four connections to each of three addresses") as effect:
        switch_timestamps(pair, 1)
        offsets = [[offset_towards(peer) for _ in range(4)] for peer in peers]
        effect.note("offsets", offsets)
        for address in offsets:
            slack = address[0].slack
            effect.compare(
                "TSval - kernel's clock, in ticks",
                address[0].ticks,
                document=between(slack + 1, 2**32 - 1),
                kernel=between(slack + 1, 2**32 - 1) if randomised else between(0, slack),
            )
            effect.premise("different offsets to one address", different(address), offsets_to_one_address(4))
        addresses = [address[0] for address in offsets]
        effect.premise("different offsets to three addresses", different(addresses), 3 if randomised else 1)
    with claim.effect("2: four connections to each of three addresses") as effect:
        switch_timestamps(pair, 2)
        for offset in [offset_towards(peer) for peer in peers for _ in range(4)]:
            effect.compare("TSval - kernel's clock, in ticks", offset.ticks, document=between(0, offset.slack))
        before = time.monotonic_ns() // 1_000_000
        kernels = clock_of(pair.client)
        passed = time.monotonic_ns() // 1_000_000 - before
        # tcp_clock_ns() is ktime_get_ns() since 4.20.
        wanted = between(-1, passed) if running() >= "4.20" else between(-(2**32), 2**32)
        effect.premise("the kernel's clock - CLOCK_MONOTONIC in ms", distance(before, kernels), wanted)
    packets = claim.capture(pair.server)
    with claim.effect("0: a connection with data") as effect:
        switch_timestamps(pair, 0)
        client, _ = talk(pair)
        effect.compare("segments with the option", sum(carry_stamps(packets, client.getpeername()[1])), document=0)
    with claim.control("any other value: a connection with data") as control:
        for mode in (1, 2):
            switch_timestamps(pair, mode)
            client, _ = talk(pair)
            # The client's port may be one of those that still knock on the peers of before.
            control.expect("all segments have the option", all(carry_stamps(packets, client.getpeername()[1])), True)


def rejected(phase: Phase, host: Host) -> int:
    """How many segments PAWS has rejected in this phase, whichever counter the kernel has for it.

    PAWSOldAck since 6.14 (d16b34479064), PAWSTimewait since 6.16 (c449d5f3a3d4); before, all were PAWSEstab.
    """
    moved = phase.delta(host).TcpExt
    return sum(moved[name] for name in ("PAWSEstab", "PAWSOldAck", "PAWSTimewait") if name in moved)


@pytest.mark.claim("timestamps.paws-drops-older")
def test_paws_drops_older(claim: ClaimRun, pair: Pair) -> None:
    listener, peer = listen(pair.server), RawPeer(pair.server, pair.client)
    connection = peer.connection(listener)
    theirs = shake_hands(connection, CLOCK)
    (server,) = listener.accept()

    def say(phase: Phase, value: int) -> bytes:
        """Send data that is in turn, with this timestamp; what the application can then read."""
        connection.send("PA", b"data", seq=connection.seq, options=stamp(value, theirs))
        until(lambda: peek(server) or rejected(phase, pair.server), what="the segment to be taken or rejected")
        return peek(server)

    def nstat() -> int:
        return int(pair.server.run("nstat", "-asz", "TcpExtPAWSEstab").stdout.split()[-2])

    for age in AGES:
        before = nstat()
        with claim.effect(f"data in turn, its timestamp {age} older than the last") as effect:
            effect.compare("what the application can read", say(effect, CLOCK - age), document=b"")
            effect.compare("PAWSEstab", effect.delta(pair.server).TcpExt.PAWSEstab, document=1)
            effect.compare("nstat TcpExtPAWSEstab", nstat() - before, document=1)
    with claim.effect("an acknowledgement out of turn, its timestamp older than the last") as effect:
        connection.send("A", seq=connection.seq - 1, options=stamp(CLOCK - 1000, theirs))
        until(lambda: rejected(effect, pair.server), what="the segment to be rejected")
        effect.compare("rejected", rejected(effect, pair.server), document=1)
    last = CLOCK
    for age in (1, 0, -1, -1000, 2**31):
        with claim.control(f"data in turn, its timestamp {age} older than the last") as control:
            # One tick of tolerance, TCP_PAWS_WINDOW; and what is 2^31 older is newer.
            control.expect("what the application can read", say(control, last - age), b"data")
            control.expect("rejected", rejected(control, pair.server), 0)
        server.recv(100)
        connection.seq += 4
        last -= age if age != 1 else 0


Ends = tuple[socket.socket, socket.socket]
Wrap = Callable[[Pair, Ends, int, int], Ends]


def stream_after_wrap(phase: Phase, pair: Pair, wrap: Wrap) -> bytes:
    """What the application reads of "hello" and "new data" when a segment of one wrap ago comes between them.

    The segment is a real one that was late: sent again, its bytes had arrived long before. `wrap` brings the client's
    sequence number from behind these bytes to 5 before them.
    """
    client, server = talk(pair)
    late = hold(pair.server, "PA", dport=server.getsockname()[1])
    here, there = sequence_numbers(client)
    client.send(b"old data")
    (old,) = until(late.held, what="a segment to hold")[:1]
    late.lift()
    assert read(server, 8) == b"old data"
    client, server = wrap(pair, (client, server), here - 5, there)
    client.send(b"hello")
    until(lambda: peek(server) == b"hello", what="the last bytes before the place")
    late.deliver([checksummed(old)])
    until(lambda: peek(server) != b"hello" or rejected(phase, pair.server), what="it to be taken or rejected")
    client.send(b"new data")
    until(lambda: not unacknowledged(pair.client, client), what="all to be acknowledged")
    return server.recv(100)


def unacknowledged(host: Host, connection: socket.socket) -> int:
    """How many bytes were sent and not acknowledged."""
    (found,) = sockets(host, f"state established sport = :{connection.getsockname()[1]}")
    return found.send_q


def wrap_by_repair(pair: Pair, ends: Ends, here: int, there: int) -> Ends:
    """Both ends are closed unnoticed and placed where they would be after 2^32 bytes, at 10 Gbit/s 3436 ms later."""
    client, server = ends
    ports = client.getsockname()[1], server.getsockname()[1]
    clock = timestamp(client) + 3436 if pair.server.sysctl[TIMESTAMPS] != "0" else None
    for end in ends:
        vanish(end)
    return place_both(pair.client, pair.server, ports, Placed(here, there, clock))


def wrap_by_data(_: Pair, ends: Ends, here: int, __: int) -> Ends:
    """The client sends, and the server throws away, as many bytes as it takes."""
    client, server = ends
    remaining = (here - sequence_numbers(client)[0]) % 2**32
    chunk, place = memoryview(bytes(1 << 20)), bytearray(1 << 20)
    with selectors.DefaultSelector() as ready:
        ready.register(client, selectors.EVENT_WRITE)
        ready.register(server, selectors.EVENT_READ)
        sent = taken = 0
        while taken < remaining:
            for key, _events in ready.select(60):
                if key.fileobj is server:
                    taken += server.recv_into(place, 0, socket.MSG_TRUNC)
                elif sent < remaining:
                    sent += client.send(chunk[: remaining - sent])
                    if sent == remaining:
                        ready.unregister(client)
    return ends


def check_wrap(claim: ClaimRun, pair: Pair, wrap: Wrap, note: str) -> None:
    """A segment of one wrap ago arrives where its bytes are expected: with timestamps, and without."""
    with claim.effect("with timestamps: a segment of one wrap ago arrives where its bytes are expected") as effect:
        effect.note("how the sequence numbers wrapped", note)
        effect.compare("the application reads", stream_after_wrap(effect, pair, wrap), document=b"hellonew data")
        effect.compare("PAWSEstab", effect.delta(pair.server).TcpExt.PAWSEstab, document=1)
    with claim.control("without timestamps: the same") as control:
        control.note("how the sequence numbers wrapped", note)
        switch_timestamps(pair, 0)
        control.expect("the application reads", stream_after_wrap(control, pair, wrap), b"helloold data")
        control.expect("PAWSEstab", control.delta(pair.server).TcpExt.PAWSEstab, 0)


@pytest.mark.claim("timestamps.paws-guards-wrap")
def test_paws_guards_wrap(claim: ClaimRun, pair: Pair) -> None:
    check_wrap(claim, pair, wrap_by_repair, "both ends were placed 2^32 bytes further with TCP_REPAIR")


@pytest.mark.full_size("4 GiB pass through each of two connections")
@pytest.mark.claim("timestamps.paws-guards-wrap")
def test_paws_guards_wrap_really(claim: ClaimRun, lab: Lab) -> None:
    check_wrap(claim, make_pair(lab, offloads=True), wrap_by_data, "2^32 bytes were sent")


def fate(connection: socket.socket) -> str:
    """What the application learns by reading."""
    try:
        return "data" if connection.recv(100, socket.MSG_PEEK) else "closed"
    except BlockingIOError:
        return "open"
    except ConnectionResetError:
        return "ECONNRESET"


@pytest.mark.claim("timestamps.paws-ignores-rst")
def test_paws_ignores_rst(claim: ClaimRun, pair: Pair) -> None:
    listener, peer = listen(pair.server), RawPeer(pair.server, pair.client)

    def states(connection: RawConnection) -> list[str]:
        return [s.state for s in sockets(pair.server, f"exclude listening dport = :{connection.port}")]

    def send(phase: Phase, connection: RawConnection, flags: str, age: int, payload: bytes = b"") -> None:
        """A segment in turn whose timestamp is so much older than the last: rejected, or the connection ends."""
        connection.send(flags, payload, seq=connection.seq, options=stamp(CLOCK - age))
        until(lambda: rejected(phase, pair.server) or not states(connection), what="the segment to have its effect")

    for age in AGES:
        connection = peer.connection(listener)
        shake_hands(connection, CLOCK)
        (server,) = listener.accept()
        with claim.control(f"data in turn, its timestamp {age} older than the last") as control:
            send(control, connection, "PA", age, b"data")
            control.expect("what the application learns", fate(server), "open")
            control.expect("PAWSEstab", control.delta(pair.server).TcpExt.PAWSEstab, 1)
        with claim.effect(f"an RST in its place, its timestamp {age} older than the last") as effect:
            send(effect, connection, "RA", age)
            effect.compare("what the application learns", fate(server), document="ECONNRESET")
            effect.compare("rejected", rejected(effect, pair.server), document=0)
            effect.compare("the connection at the server", states(connection), document=[])

    # Before and after the connection it is looked at, for a minute: tcp_paws_reject(…, rst), TCP_PAWS_MSL.
    half, gone = peer.connection(listener), peer.connection(listener)
    ask(half, CLOCK)
    half.expect_syn_ack()
    come_and_go(gone, listener, CLOCK)
    for connection, state in ((half, "SYN-RECV"), (gone, "TIME-WAIT")):
        with claim.effect(f"the same RST in {state}") as effect:
            send(effect, connection, "R", 1000)
            effect.premise("the server's state", states(connection), [state])
            effect.premise("rejected", rejected(effect, pair.server), 1)
        with claim.control(f"an RST with the last timestamp in {state}") as control:
            send(control, connection, "R", 0)
            control.expect("the server's state", states(connection), [])
            control.expect("rejected", rejected(control, pair.server), 0)


def arrive(phase: Phase, server: Host, listener: Listener, new: list[RawConnection], clocks: list[int]) -> int:
    """Raw clients of one address, each with its own clock, try to connect; how many do."""
    before = refused(phase, server)

    def answered() -> list[RawConnection]:
        return [connection for connection in new if connection.replies()]

    for connection, clock in zip(new, clocks, strict=True):
        ask(connection, clock)
    until(lambda: len(answered()) + refused(phase, server) - before == len(new), what="each SYN answered or dropped")
    for connection, clock in zip(new, clocks, strict=True):
        if connection in answered():
            finish(connection, clock)
    return len(listener.accept(len(answered())))


def refused(phase: Phase, server: Host) -> int:
    """SYNs that were dropped for their timestamp; kernels that never do that have no such counter."""
    return phase.delta(server).as_dict().get("TcpExt.PAWSPassive", 0)


@pytest.mark.claim("timestamps.per-peer-granularity")
def test_per_peer_granularity(claim: ClaimRun, behind_nat: Callable[..., BehindNat]) -> None:
    net = behind_nat()
    server, listener = net.server, listen(net.server)
    peer = RawPeer(server, net.gateway)
    seen = claim.capture(server, port=listener.port)

    def new(n: int = len(AGES)) -> list[RawConnection]:
        return [peer.connection(listener) for _ in range(n)]

    behind = [CLOCK - age for age in AGES]
    with claim.effect(
        "one connection is open, one has come and gone; others of that address have older timestamps"
    ) as effect:
        (open_one, gone) = new(2)
        come_and_go(gone, listener, CLOCK)
        shake_hands(open_one, CLOCK)
        listener.accept()
        made = arrive(effect, server, listener, new(), behind)
        effect.compare("connections made", made, document=0, kernel=len(AGES))
        # What the kernel does look at is the four-tuple.
        gone.seq += 100_000
        ask(gone, CLOCK - 2)
        effect.premise("the same ports, in TIME-WAIT: the answer to the SYN", str(gone.wait(bool).flags), "A")
    with claim.effect("two real clients behind the gateway, in turns") as effect:

        def setbacks() -> int:
            """How often a SYN that the server has seen was older than the one before."""
            return sum(older(later, earlier) for earlier, later in itertools.pairwise(clocks()))

        def clocks() -> list[int]:
            outside = seen.segments(flags="S", dport=listener.port, direction="in")
            return [syn.tsval or 0 for syn in outside if syn.src != peer.address]

        def turn() -> int:
            """Each client connects, and is closed by the server; the setbacks up to now."""
            for client, clock in zip(net.clients, (CLOCK, CLOCK - 1_000_000), strict=True):
                connecting = connect_at(client, listener, clock)
                listener.accept()[0].close()
                until(lambda: fate(connecting) == "closed", what="the server to close")
                connecting.close()
            return setbacks()

        until(lambda: turn() >= 3, deadline=20, what="three connections that are older than the one before")
        effect.note("timestamps of the SYNs, as the server sees them", clocks())
        effect.compare("older than the one before, and connected", setbacks(), document=0, kernel=at_least(3))
    if RECYCLE in server.sysctl:
        with claim.effect("tcp_tw_recycle 1: the first again") as effect:
            server.sysctl[RECYCLE] = 1
            come_and_go(peer.connection(listener), listener, CLOCK)
            effect.compare("connections made", arrive(effect, server, listener, new(), behind), document=0)
    with claim.control("others of that address have newer timestamps") as control:
        newer = [CLOCK + 2 + i for i in range(len(AGES))]
        control.expect("connections made", arrive(control, server, listener, new(), newer), len(newer))


@pytest.mark.claim("timestamps.tw-recycle-default-danger")
def test_tw_recycle_default_danger(claim: ClaimRun, pair: Pair) -> None:
    try:
        pair.server.sysctl[RECYCLE] = 1
    except UnknownSysctl as missing:
        there = [name for name in pair.server.sysctl.names() if "tcp_tw" in name]
        claim.not_applicable("the kernel has no tcp_tw_recycle", shown={"asked for": str(missing), "there are": there})
        return
    listener = listen(pair.server)

    def crowd(phase: Phase) -> int:
        """One client of an address comes and goes, then others try whose clocks are older; how many connect."""
        peer = RawPeer(pair.server, pair.client)
        come_and_go(peer.connection(listener), listener, CLOCK)
        others = [peer.connection(listener) for _ in AGES]
        return arrive(phase, pair.server, listener, others, [CLOCK - age for age in AGES])

    with claim.effect("tcp_tw_recycle 1, tcp_timestamps as it is") as effect:
        effect.compare(TIMESTAMPS, pair.server.sysctl[TIMESTAMPS], document="1")
        effect.compare("clients of the same address with older clocks that connect", crowd(effect), document=0)
        effect.compare("PAWSPassive", effect.delta(pair.server).TcpExt.PAWSPassive, document=len(AGES))
    with claim.control("tcp_tw_recycle 1, tcp_timestamps 0") as control:
        switch_timestamps(pair, 0)
        control.expect("clients of the same address with older clocks that connect", crowd(control), len(AGES))
        control.expect("PAWSPassive", control.delta(pair.server).TcpExt.PAWSPassive, 0)
