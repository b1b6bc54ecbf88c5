"""Impairments of one direction: what arrives at a host is dropped by what it is and when, or held and let go later.

Dropping is done by nf_tables in the receiving host, because a filter at the sender does not see packet sockets, and
because kernels without netem exist. A held packet is dropped there too, but a packet socket of the host has seen it
before the filter did (net/core/dev.c, __netif_receive_skb_core()); releasing it sends the same frame again from the
far end of the cable.
"""

from __future__ import annotations

import itertools
import socket
import struct
import time
from typing import TYPE_CHECKING, Self

from harness.errors import Unsupported
from harness.lab import Host, nft
from harness.lab.impairment import Flags, Impairment, SegmentMatch
from harness.traffic.frames import segment_in
from harness.traffic.raw import deliver

if TYPE_CHECKING:
    from types import TracebackType

# RFC 9293, section 3.1: ports, acknowledgement number, length of the header (upper half), flags.
SEGMENT = struct.Struct(">HH4xIBB")
# In words of four bytes.
SHORTEST_HEADER, LONGEST_HEADER = 5, 15
ETH_P_ALL = 3
PACKET_OUTGOING = 4
_numbers = itertools.count(1)


class Drop:
    """A rule that drops arriving TCP segments; lifted by lift(), at the end of `with`, or with the lab."""

    kind = "drop"

    def __init__(self, host: Host, wanted: Wanted) -> None:
        self._host = host
        self._wanted = wanted
        self._since = time.time()
        self._until: float | None = None
        self._table = _dropping(host, wanted)
        self._lifted = False
        host.lab.impairments.append(self.impairment)
        host.lab.on_close(self.lift)

    @property
    def count(self) -> int:
        """How many segments it has dropped."""
        return self._table.counts()[0] if not self._lifted else self._last

    def lift(self) -> int:
        """Let everything pass again; returns how many were dropped."""
        if not self._lifted:
            self._last = self.count
            self._table.remove()
            self._until = time.time()
            self._lifted = True
        return self._last

    def impairment(self) -> Impairment:
        """The rule as it stands now: where, which segments, from when to when, and how many it has dropped."""
        match = SegmentMatch(**vars(self._wanted))
        return Impairment(self.kind, self._host.name, match, self._since, self._until, self.count)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lift()


class Arrivals:
    """How many of the TCP segments that match have arrived at a host, from its beginning on."""

    def __init__(self, host: Host, wanted: Wanted) -> None:
        self._table = _table(host, "arrivals", *_with_data(host, wanted), (*_expressions(host, wanted), *nft.counter()))

    @property
    def count(self) -> int:
        """How many up to now."""
        return self._table.counts()[0]


class Hold(Drop):
    """Held segments: dropped now, delivered by release() in the order in which they arrived."""

    kind = "hold"

    def __init__(self, host: Host, wanted: Wanted) -> None:
        with host:
            self._seen = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._seen.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._seen.bind((next(iter(host.interfaces)), ETH_P_ALL))
        self._seen.setblocking(False)
        host.lab.on_close(self._seen.close)
        super().__init__(host, wanted)

    def held(self) -> list[bytes]:
        """Take the frames held up to now out of the kernel's hands; each is returned once."""
        frames: list[bytes] = []
        while True:
            try:
                frame, source = self._seen.recvfrom(65536)
            except BlockingIOError:
                return frames
            if source[2] != PACKET_OUTGOING and self._wanted.matches(frame):
                frames.append(frame)

    def release(self) -> int:
        """Lift the rule and deliver what was held; how many frames."""
        self.lift()
        frames = self.held()
        self._seen.close()
        self.deliver(frames)
        return len(frames)

    def deliver(self, frames: list[bytes]) -> None:
        """Send frames that were held, from the far end of the cable as when they came; the rule must be lifted."""
        deliver(self._host, *frames)


class Wanted(SegmentMatch):
    """What is impaired."""

    def matches(self, frame: bytes) -> bool:
        """The same match as the nf_tables rule's, on a frame that a packet socket has read."""
        tcp = segment_in(frame)
        if tcp is None:
            return False
        sport, dport, ack, header, flags = SEGMENT.unpack_from(tcp)
        return (
            (self.flags is None or Flags.of(self.flags).meet(flags, len(tcp) - 4 * (header >> 4)))
            and (self.sport is None or sport == self.sport)
            and (self.dport is None or dport == self.dport)
            and (self.ack is None or ack == self.ack)
        )


def drop(
    host: Host,
    flags: str | None = None,
    *,
    sport: int | None = None,
    dport: int | None = None,
    ack: int | None = None,
    first: int = 1,
    count: int | None = None,
) -> Drop:
    """Drop TCP segments that arrive at a host.

    `flags` are letters of FIN, SYN, RST, PSH, ACK, URG, ECE and CWR and mean what people mean by them ("S" a SYN and no
    SYN-ACK, "F" a FIN, "R" a reset, with an ACK or without, "A" an ACK that carries nothing, "PA" data: see
    `harness.lab.impairment.Flags`); ports and `ack`, the acknowledgement number, are the segment's. Of the matching
    segments those from the `first` (1 is the next) are dropped, `count` of them or all:
    `drop(server, "A", dport=80, count=1)` loses the third ACK of the next handshake. BadInput for other letters.
    """
    return Drop(host, Wanted(flags, sport, dport, ack, first, count))


def arrivals(host: Host, flags: str | None = None, *, sport: int | None = None, dport: int | None = None) -> Arrivals:
    """Count the TCP segments that arrive at a host from now on; the match is drop()'s."""
    return Arrivals(host, Wanted(flags, sport, dport))


def hold(host: Host, flags: str | None = None, *, sport: int | None = None, dport: int | None = None) -> Hold:
    """Hold TCP segments that arrive at the first interface of a host until release(); the match is drop()'s."""
    return Hold(host, Wanted(flags, sport, dport))


def _expressions(host: Host, wanted: Wanted) -> list[nft.Expression]:
    expressions = [*nft.version(host.family), *nft.protocol(socket.IPPROTO_TCP)]
    for port, offset in ((wanted.sport, 0), (wanted.dport, 2)):
        if port is not None:
            expressions += nft.Match(nft.TRANSPORT_HEADER, offset, port.to_bytes(2, "big")).expressions()
    if wanted.ack is not None:
        expressions += nft.Match(nft.TRANSPORT_HEADER, 8, wanted.ack.to_bytes(4, "big")).expressions()
    if wanted.flags is not None:
        flags = Flags.of(wanted.flags)
        expressions += nft.Match(nft.TRANSPORT_HEADER, 13, bytes([flags.value]), bytes([flags.mask])).expressions()
    return expressions


Rule = tuple[nft.Expression, ...]


def _with_data(host: Host, wanted: Wanted) -> list[Rule]:
    """Rules that let segments with a payload pass where only bare ones are meant; none where it does not matter.

    For each length of the header a rule that reads the byte behind it: where there is none the rule does not match
    (NFT_BREAK, net/netfilter/nft_payload.c).
    """
    if wanted.flags is None or not Flags.of(wanted.flags).bare:
        return []
    match = _expressions(host, wanted)
    return [
        (
            *match,
            *nft.Match(nft.TRANSPORT_HEADER, 12, bytes([words << 4]), b"\xf0").expressions(),
            nft.load(nft.TRANSPORT_HEADER, 4 * words, 1),
            *nft.accept(),
        )
        for words in range(SHORTEST_HEADER, LONGEST_HEADER + 1)
    ]


def _dropping(host: Host, wanted: Wanted) -> nft.Table:
    """A table that counts and drops what is wanted."""
    spared = _with_data(host, wanted)
    if wanted.first == 1 and wanted.count is None:
        return _table(host, "impair", *spared, (*_expressions(host, wanted), *nft.counter(), *nft.drop()))
    try:
        return _table(host, "impair", *spared, *counted_by_number(_expressions(host, wanted), wanted))
    except Unsupported:  # numgen is of 4.9
        return _table(host, "impair", *spared, *counted_by_limits(_expressions(host, wanted), wanted))


def counted_by_number(match: list[nft.Expression], wanted: SegmentMatch) -> list[Rule]:
    """The rule that drops those from the first on, as many as there are to be."""
    return [(*match, *nft.occurrence(wanted.first, wanted.count), *nft.counter(), *nft.drop())]


def counted_by_limits(match: list[nft.Expression], wanted: SegmentMatch) -> list[Rule]:
    """The same in two rules: those before the first one pass, and so do those that come when there were enough."""
    passing: list[Rule] = [(*match, *nft.at_most(wanted.first - 1), *nft.accept())] if wanted.first > 1 else []
    enough = [] if wanted.count is None else nft.at_most(wanted.count)
    return [*passing, (*match, *enough, *nft.counter(), *nft.drop())]


def _table(host: Host, name: str, *rules: Rule) -> nft.Table:
    chain = nft.Chain("prerouting", nft.RAW_PRIORITY, rules)
    return nft.Table(host.namespace, f"{name}{next(_numbers)}", {"arriving": chain})
