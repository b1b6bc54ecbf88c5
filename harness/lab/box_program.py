"""A box in a cable: moves frames between interfaces, and delays, loses, doubles or overtakes some of them on the way.

    python -I -S box_program.py '{"ports": ["port1", "port2"], "largest": 1514}'

For kernels without netem, and for chance that must come again where netem takes no seed (harness.lab.box). It is told
what to do by lines of JSON at its standard input, and answers with one each: {"arm": {…}} is what it does to frames
from then on, {"tell": true} asks what it has done. Its end is that of its input. Nothing but the standard library: it
runs without the harness.

What leaves by a port goes through two places in turn. The way: a frame may be doubled or lost, and takes its time. The
bottleneck: frames wait in a queue of bounded length, and leave one after another as the rate says. Chance is drawn in
the order, and from the generator, of net/sched/sch_netem.c: the n-th frame to a port fares as with netem and the same
seed.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import gc
import heapq
import json
import os
import select
import struct
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, field

ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_OUTGOING, PACKET_STATISTICS = 4, 6
SO_RCVBUF, SO_TIMESTAMPNS, SO_RCVBUFFORCE = 8, 35, 33
STATISTICS = struct.Struct("=II")
TIMESPEC = struct.Struct("=qq")
# In bytes: what the kernel keeps for each port until it is read.
UNREAD = 8 << 20
# So many frames may be on the way to a port, as many bytes in the whole box; the rest is dropped and counted.
UNDER_WAY, HELD = 10_000, 256 << 20
# Frames read from one port before others have their turn.
AT_A_TIME = 64
SECOND = 1_000_000_000
# In nanoseconds and tries: how far apart readings of the two clocks may be that are compared.
TOGETHER, COMPARISONS = 20_000, 5
# How long a frame waits for room on the cable: so often half a millisecond.
KNOCKS = 400
IPV6, HOP_BY_HOP = b"\x86\xdd", 0
ANY, SCM_TIMESTAMPNS = 1, 35
ALL_ONES = 0xFFFFFFFF


class Chance:
    """The kernel's prandom_u32_state() (lib/random32.c) from a seed of 64 bits, as prandom_seed_state() takes it."""

    def __init__(self, seed: int) -> None:
        mixed = (seed >> 32 ^ seed << 10 ^ seed) & ALL_ONES
        self._state = tuple(mixed if mixed >= least else mixed + least for least in (2, 8, 16, 128))

    def draw(self) -> int:
        """The next number of 32 bits."""
        a, b, c, d = self._state
        a = ((a & 0xFFFFFFFE) << 18 ^ ((a << 6 & ALL_ONES) ^ a) >> 13) & ALL_ONES
        b = ((b & 0xFFFFFFF8) << 2 ^ ((b << 2 & ALL_ONES) ^ b) >> 27) & ALL_ONES
        c = ((c & 0xFFFFFFF0) << 7 ^ ((c << 13 & ALL_ONES) ^ c) >> 21) & ALL_ONES
        d = ((d & 0xFFFFFF80) << 13 ^ ((d << 3 & ALL_ONES) ^ d) >> 12) & ALL_ONES
        self._state = a, b, c, d
        return a ^ b ^ c ^ d


@dataclass(frozen=True)
class Doing:
    """What is done to frames that leave by a port.

    `delay` and `jitter` in nanoseconds; `loss`, `duplicate` and `reorder` as shares of 2**32 - 1; `rate` in bytes a
    second, 0 for none, and the frames that its `queue` holds.
    """

    delay: int = 0
    jitter: int = 0
    loss: int = 0
    duplicate: int = 0
    reorder: int = 0
    rate: float = 0.0
    queue: int = 0


@dataclass
class Done:
    """What was done to frames to a port: how many passed, and what became of others.

    `lost` by chance; `overflowed`, for which the queue had no room; `crowded`, too many under way; `overrun`, that came
    faster than the box reads; `waiting`, that are on the way now. `latest` is the longest time, in nanoseconds, by
    which one left later than it was to.
    """

    passed: int = 0
    lost: int = 0
    doubled: int = 0
    overtook: int = 0
    overflowed: int = 0
    crowded: int = 0
    overrun: int = 0
    waiting: int = 0
    latest: int = 0


@dataclass
class Port:
    """An end of the cable: its socket, when a frame last came by it; what is done to frames that leave by it, and who
    is at the bottleneck.
    """

    socket: _socket.socket
    last_came: int = 0
    doing: Doing = field(default_factory=Doing)
    chance: Chance = field(default_factory=lambda: Chance(0))
    done: Done = field(default_factory=Done)
    under_way: int = 0
    last_arrival: int = 0
    ends: deque[int] = field(default_factory=deque)

    def admit(self, now: int, *, copy: bool = False) -> list[int]:
        """When a frame that comes now, and its double, are through the way: none, one or two moments."""
        doing, draw = self.doing, self.chance.draw
        count = 1
        if doing.duplicate and not copy and doing.duplicate >= draw():
            count += 1
        if doing.loss and doing.loss >= draw():
            count -= 1
        if count == 0:
            self.done.lost += 1
            return []
        if self.under_way >= UNDER_WAY:
            self.done.crowded += 1
            return []
        doubles = []
        if count > 1:
            self.done.doubled += 1
            doubles = self.admit(now, copy=True)
        self.under_way += 1
        return [*doubles, self._arrival(now)]

    def _arrival(self, now: int) -> int:
        """When a frame is through: it keeps its place, unless it is one of those that overtake all others."""
        doing, draw = self.doing, self.chance.draw
        if doing.reorder and doing.reorder >= draw():
            self.done.overtook += 1
            return now
        if not doing.jitter:
            return now + doing.delay
        self.last_arrival = max(self.last_arrival, now + draw() % (2 * doing.jitter) + doing.delay - doing.jitter)
        return self.last_arrival

    def leave(self, now: int, size: int) -> int | None:
        """When a frame that is at the bottleneck now has left it; None where its queue has no room."""
        ends = self.ends
        while ends and ends[0] <= now:
            ends.popleft()
        if len(ends) >= self.doing.queue:
            self.done.overflowed += 1
            return None
        began = ends[-1] if ends else now
        ends.append(began + int(size * SECOND / self.doing.rate))
        return ends[-1]


class Box:
    """The ports, and the frames between them: when each is next due, its number, its port, itself, how far it is."""

    def __init__(self, names: list[str], largest: int) -> None:
        self.ports = [Port(_open(name)) for name in names]
        self._largest = largest
        self._number = 0
        self._held = 0
        self._due: list[tuple[int, int, Port, bytes, bool]] = []
        self._where: dict[bytes, Port] = {}
        self._said = b""

    def arm(self, doing: dict[str, float], seeds: list[int]) -> None:
        """From now on do this to frames; chance begins anew, from a seed for each port. What is under way goes on."""
        for port, seed in zip(self.ports, seeds, strict=True):
            port.doing = Doing(**doing)  # type: ignore[arg-type]
            port.chance, port.done = Chance(seed), Done()
            port.last_arrival = 0
            port.ends.clear()

    def tell(self) -> list[dict[str, int]]:
        """What was done at each port since the last arm()."""
        for port in self.ports:
            _, dropped = STATISTICS.unpack(port.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, STATISTICS.size))
            port.done.overrun += dropped
            port.done.waiting = sum(due[2] is port for due in self._due)
        return [asdict(port.done) for port in self.ports]

    def run(self) -> None:
        """Move frames until the input ends."""
        by_socket = {port.socket.fileno(): port for port in self.ports}
        watched = [0, *by_socket]
        while True:
            self._let_go()
            wait = max(0.0, (self._due[0][0] - time.monotonic_ns()) / SECOND) if self._due else None
            readable, _, _ = select.select(watched, [], [], wait)
            for number in readable:
                if number:
                    self._read(by_socket[number])
                elif not self._command():
                    return

    def _command(self) -> bool:
        """Obey what the input says; False at its end."""
        said = os.read(0, 1 << 16)
        *lines, self._said = (self._said + said).split(b"\n")
        for line in lines:
            command = json.loads(line)
            if "arm" in command:
                self.arm(**command["arm"])
            answer = {"done": self.tell() if "tell" in command else None}
            os.write(1, json.dumps(answer).encode() + b"\n")
        return bool(said)

    def _read(self, port: Port) -> None:
        """Take what has come to a port, each frame with the moment at which the kernel had it."""
        now, behind = _clocks()
        for _ in range(AT_A_TIME):
            try:
                frame, beside, _, source = port.socket.recvmsg(self._largest + 1, 64)
            except BlockingIOError:
                return
            except OSError:  # the interface went with its host
                return
            if source[2] == PACKET_OUTGOING or len(frame) > self._largest or _is_chatter(frame):
                continue
            # The time of day may be set meanwhile: a frame is not older than a moment. Two comparisons of the clocks
            # never agree to the nanosecond: a frame did not come before the frames that were read before it.
            port.last_came = max(port.last_came, now - SECOND // 10, _stamp(beside, now + behind) - behind)
            port.last_came = min(time.monotonic_ns(), port.last_came)
            for out in self._ways(port, frame):
                for moment in out.admit(port.last_came):
                    self._put(moment, out, frame)

    def _ways(self, came_by: Port, frame: bytes) -> list[Port]:
        """The ports that a frame leaves by: where its destination was seen, or all others."""
        if len(self.ports) == 2:
            return [port for port in self.ports if port is not came_by]
        self._where[frame[6:12]] = came_by
        port = self._where.get(frame[:6])
        if port is None:
            return [port for port in self.ports if port is not came_by]
        return [port] if port is not came_by else []

    def _put(self, moment: int, port: Port, frame: bytes, *, at_the_end: bool = False) -> None:
        if self._held + len(frame) > HELD:
            port.under_way -= not at_the_end
            port.done.crowded += 1
            return
        self._held += len(frame)
        self._number += 1
        heapq.heappush(self._due, (moment, self._number, port, frame, at_the_end))

    def _let_go(self) -> None:
        """Let go of what is due: from the way to the bottleneck, and from there out."""
        now = time.monotonic_ns()
        while self._due and self._due[0][0] <= now:
            moment, _, port, frame, at_the_end = heapq.heappop(self._due)
            self._held -= len(frame)
            port.under_way -= not at_the_end
            if at_the_end or not port.doing.rate:
                _send(port, frame)
                port.done.latest = max(port.done.latest, now - moment)
            elif (left := port.leave(moment, len(frame))) is not None:
                self._put(left, port, frame, at_the_end=True)


def _open(name: str) -> _socket.socket:
    """A packet socket at an interface, which also says when each frame came."""
    opened = _socket.socket(_socket.AF_PACKET, _socket.SOCK_RAW, 0)
    opened.setblocking(False)
    try:
        opened.setsockopt(_socket.SOL_SOCKET, SO_RCVBUFFORCE, UNREAD)
    except PermissionError:  # an ordinary user has what net.core.rmem_max allows
        opened.setsockopt(_socket.SOL_SOCKET, SO_RCVBUF, UNREAD)
    opened.setsockopt(_socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    opened.bind((name, ETH_P_ALL))
    return opened


def _clocks() -> tuple[int, int]:
    """The time of CLOCK_MONOTONIC in nanoseconds, and how far CLOCK_REALTIME, in which stamps are, is ahead of it.

    A process that is stopped between the two readings would take the pause for a part of the difference.
    """
    least, known = SECOND, (0, 0)
    for _ in range(COMPARISONS):
        before, of_day, now = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        if now - before < least or not known[0]:
            least, known = now - before, (now, of_day - (before + now) // 2)
        if least <= TOGETHER:
            break
    return known


def _stamp(beside: list[tuple[int, int, bytes]], otherwise: int) -> int:
    for level, kind, data in beside:
        if (level, kind) == (ANY, SCM_TIMESTAMPNS):
            seconds, nanoseconds = TIMESPEC.unpack_from(data)
            return int(seconds * SECOND + nanoseconds)
    return otherwise


def _is_chatter(frame: bytes) -> bool:
    """Whether a frame is a host's report of the multicast groups it is in (MLD, RFC 3810): sent whenever it likes."""
    return frame[12:14] == IPV6 and len(frame) > 20 and frame[20] == HOP_BY_HOP


def _send(port: Port, frame: bytes) -> None:
    """Put a frame on the cable. All cables of the machine share a queue a processor, which may be full for a while."""
    for _ in range(KNOCKS):
        try:
            port.socket.send(frame)
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # the interface went with its host
                return
            select.select([], [], [], 0.0005)
        else:
            port.done.passed += 1
            return
    port.done.overrun += 1


def _be_quick() -> None:
    """Come before others where the machine allows it: among all processes, and with our group among all groups."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as group:  # noqa: PTH123 - pathlib takes its time
        group.write("-20")


def main() -> None:
    """Open the ports, say so, and move frames."""
    gc.disable()  # nothing here refers to itself
    _be_quick()
    asked = json.loads(sys.argv[1])
    box = Box(asked["ports"], asked["largest"])
    os.write(1, b'{"done": null}\n')
    box.run()


if __name__ == "__main__":
    main()
