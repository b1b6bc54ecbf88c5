"""A capture of packets, pcap or pcapng: which SYNs were answered, repeated, reset."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any, BinaryIO

from harness.evidence.types import Endpoint
from harness.incident.captured import Attempts, Captured
from harness.incident.machine import FileRead
from harness.observe import segments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.incident.reading.context import Context
    from harness.observe.segments import Segment

MAGICS = (b"\xa1\xb2\xc3\xd4", b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x4d\x3c\xb2\xa1", b"\x0a\x0d\x0d\x0a")
ETHERNET, RAW, SLL, SLL2 = 1, (12, 14, 101, 228, 229), 113, 276
MOST_PACKETS = 2_000_000
# In bytes: no packet is as long, and with one of its options no block of a pcapng is.
LARGEST_BLOCK = 16 << 20
MOST_SERVICES = 1000
MOST_CONNECTIONS = 500_000
# Of so many four-tuples the last packet is remembered: the same packet at a second interface follows at once.
MOST_REMEMBERED = 50_000


def is_capture(head: bytes) -> bool:
    """Whether a file begins as a pcap or a pcapng does."""
    return head.startswith(MAGICS)


class Connection:
    """One attempt to connect, by what was seen of it."""

    __slots__ = (
        "acked", "answers", "broken", "client", "data", "reset", "retransmitted", "seen", "service", "stamps", "syn",
        "syns",
    )  # fmt: skip

    def __init__(self, segment: Segment) -> None:
        self.client, self.service = (segment.src, segment.sport), (segment.dst, segment.dport)
        self.syn = segment.seq
        self.syns = 1
        self.answers = self.data = self.retransmitted = 0
        self.acked = self.reset = self.broken = False
        self.stamps = segment.tsval is not None
        self.seen: dict[str, int] = {}


class Attempting:
    """The attempts of one capture. The same packet, captured at two interfaces, counts once."""

    def __init__(self) -> None:
        self.open: dict[tuple[str, int, str, int], Connection] = {}
        self.over: list[Connection] = []
        # The first of a plain dict is far behind what has been deleted there.
        self.last: OrderedDict[tuple[str, int, str, int], tuple[float, int, int, str]] = OrderedDict()
        self.too_many = 0

    def take(self, segment: Segment) -> None:
        """One segment, in the order of time."""
        key = segment.four_tuple
        here = segment.time, segment.seq, segment.length, segment.flags
        before = self.last.pop(key, None)
        self.last[key] = here
        if len(self.last) > MOST_REMEMBERED:
            self.last.popitem(last=False)
        if before and before[1:] == here[1:] and here[0] - before[0] < 0.0005:
            return
        if "S" in segment.flags and "A" not in segment.flags:
            self._syn(key, segment)
        else:
            self._other(key, segment)

    def _syn(self, key: tuple[str, int, str, int], segment: Segment) -> None:
        known = self.open.get(key)
        if known and known.syn == segment.seq:
            known.syns += 1
            return
        if known:
            self.over.append(known)
        if len(self.open) + len(self.over) >= MOST_CONNECTIONS:
            self.too_many += 1
            return
        self.open[key] = Connection(segment)

    def _other(self, key: tuple[str, int, str, int], segment: Segment) -> None:
        back = (segment.dst, segment.dport, segment.src, segment.sport)
        if connection := self.open.get(back):
            self._from_service(connection, segment)
        elif connection := self.open.get(key):
            connection.acked = connection.acked or ("A" in segment.flags and connection.answers > 0)
            connection.broken = connection.broken or ("R" in segment.flags and connection.acked)
            _count(connection, "client", segment)

    def _from_service(self, connection: Connection, segment: Segment) -> None:
        if "S" in segment.flags:
            connection.answers += 1
        elif "R" in segment.flags:
            connection.broken = connection.broken or connection.acked
            connection.reset = connection.reset or connection.answers == 0
        _count(connection, "service", segment)

    def result(self) -> tuple[tuple[Attempts, ...], int]:
        """The attempts for each service, those with the most first, and how many attempts were left out."""
        by_service: dict[tuple[str, int], list[Connection]] = {}
        for connection in (*self.over, *self.open.values()):
            by_service.setdefault(connection.service, []).append(connection)
        ordered = sorted(by_service.items(), key=lambda item: -len(item[1]))
        left_out = sum(len(several) for _, several in ordered[MOST_SERVICES:]) + self.too_many
        return tuple(_attempts(service, several) for service, several in ordered[:MOST_SERVICES]), left_out


def _count(connection: Connection, side: str, segment: Segment) -> None:
    """Data that was sent again is behind what the side has sent already."""
    if not segment.length:
        return
    connection.data += 1
    furthest = connection.seen.get(side)
    if (furthest is not None and (segment.next_seq - furthest) & 0xFFFFFFFF >= 1 << 31) or segment.next_seq == furthest:
        connection.retransmitted += 1
    else:
        connection.seen[side] = segment.next_seq


def _attempts(service: tuple[str, int], several: list[Connection]) -> Attempts:
    totals: Counter[str] = Counter()
    for connection in several:
        totals["answered"] += connection.answers > 0
        totals["reset"] += connection.reset and not connection.answers
        totals["completed"] += connection.acked
        totals["repeated"] += connection.syns - 1
        totals["repeated_answers"] += max(0, connection.answers - 1)
        totals["broken"] += connection.broken
        totals["data"] += connection.data
        totals["retransmitted"] += connection.retransmitted
        totals["without_timestamps"] += not connection.stamps
    clients = len({connection.client[0] for connection in several})
    return Attempts(Endpoint(*service), len(several), clients, **totals)


def read_packets(stream: BinaryIO, context: Context) -> None:
    """Read a capture; one that is cut off is read as far as it goes, with a notice."""
    attempting = Attempting()
    packets, found = 0, 0
    first = last = 0.0
    for seconds, linktype, frame in _frames(stream, context):
        packets += 1
        first = first or seconds
        last = max(last, seconds)
        if segment := _segment(frame, linktype, seconds):
            found += 1
            attempting.take(segment)
    attempts, left_out = attempting.result()
    source = context.source(0)
    context.draft.captures.append(Captured(source, packets, found, first, last, attempts, left_out))
    context.draft.files.append(FileRead(source, "capture of packets", packets, context.namespace, context.taken))


def _frames(stream: BinaryIO, context: Context) -> Iterator[tuple[float, int, bytes]]:
    """Time in seconds, type of the link, and the bytes of each packet."""
    from scapy.error import Scapy_Exception
    from scapy.utils import RawPcapReader

    try:
        reader: Any = RawPcapReader(_Blocks(stream))  # type: ignore[arg-type]
        for number, (frame, metadata) in enumerate(reader):
            if number >= MOST_PACKETS:
                context.draft.notice(f"{context.file}: the first {MOST_PACKETS} packets are read, no more")
                return
            yield _seconds(metadata, reader), _linktype(metadata, reader), frame
    except (Scapy_Exception, EOFError, ValueError, KeyError, IndexError, OverflowError, OSError) as error:
        context.draft.notice(
            f"{context.file}: the capture cannot be read to its end: {str(error) or type(error).__name__}"
        )


class _Blocks:
    """A capture to read block by block; ValueError for one that says it is longer than any: as much memory is taken."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        """The next bytes."""
        if not 0 <= size <= LARGEST_BLOCK:
            raise ValueError(f"a block of it says that it has {size} bytes")
        return self._stream.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _seconds(metadata: Any, reader: Any) -> float:
    """pcap has seconds and a fraction, pcapng a number of ticks in two halves."""
    if hasattr(metadata, "sec"):
        return float(metadata.sec + metadata.usec / (1e9 if reader.nano else 1e6))
    ticks = (metadata.tshigh << 32) + metadata.tslow if metadata.tslow is not None else 0
    return float(ticks / (metadata.tsresol or 1_000_000))


def _linktype(metadata: Any, reader: Any) -> int:
    number = getattr(metadata, "linktype", None) or getattr(reader, "linktype", None)
    return int(number or ETHERNET)


def _segment(frame: bytes, linktype: int, seconds: float) -> Segment | None:
    if linktype == SLL:
        frame = frame[16:]
    elif linktype == SLL2:
        frame = frame[20:]
    elif linktype != ETHERNET and linktype not in RAW:
        return None
    if not frame:
        return None
    return segments.parse(frame, ethernet=linktype == ETHERNET, time=seconds, direction="", interface="")
