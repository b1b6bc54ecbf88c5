"""Floods: frames made once by scapy, sent in batches, bounded in count or time, and the rate they achieve."""

from __future__ import annotations

import ctypes
import errno
import itertools
import math
import os
import signal
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harness.errors import BadInput
from harness.traffic import frames
from harness.traffic.arriving import Arriving, can_arrive
from harness.traffic.listener import Listener
from harness.traffic.raw import ETH_P_ALL, SOL_PACKET, SYN_OPTIONS, RawPeer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.lab import Host

PACKET_QDISC_BYPASS = 20
BATCH = 256
DISTINCT = 16384
LONGEST = 120.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.001, 0.05
# Up to this rate one sender is enough: half of what a processor sends, and has the listener take, in a second.
OF_ONE_SENDER = 200_000


# struct iovec, and struct mmsghdr: a struct msghdr with one of these, padded, and how much of it was sent.
_VECTOR = struct.Struct("=QQ")
_HEADER = struct.Struct("=QI4xQQQQi4xI4x")

_libc = ctypes.CDLL(None, use_errno=True)
_sendmmsg = _libc.sendmmsg
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)


class Sender(Protocol):
    """Somewhere to send a flood's frames from, round and round."""

    @property
    def at_once(self) -> int:
        """How many it sends in one call."""

    def send(self, most: int) -> int:
        """Send up to `most`, and no more than `at_once`; how many were sent, 0 if there was no room."""


class Batches:
    """Frames laid out for sendmmsg(2), to be sent round and round."""

    def __init__(self, made: Sequence[bytes]) -> None:
        self.count = len(made)
        self._bytes = ctypes.create_string_buffer(b"".join(made))
        ends = itertools.accumulate(map(len, made), initial=ctypes.addressof(self._bytes))
        vectors = b"".join(_VECTOR.pack(at, len(frame)) for at, frame in zip(ends, made, strict=False))
        self._vectors = ctypes.create_string_buffer(vectors)
        first = ctypes.addressof(self._vectors)
        headers = (_HEADER.pack(0, 0, first + i * _VECTOR.size, 1, 0, 0, 0, 0) for i in range(self.count))
        self._headers = ctypes.create_string_buffer(b"".join(headers))
        self._begins = ctypes.addressof(self._headers)
        self._next = 0

    def send(self, fd: int, most: int) -> int:
        """Send up to `most` frames in one call; how many the kernel took, 0 if there was no room for the first."""
        n = min(most, self.count - self._next)
        sent: int = _sendmmsg(fd, self._begins + self._next * _HEADER.size, n, 0)
        if sent < 0:
            number = ctypes.get_errno()
            if number == errno.ENOBUFS:
                return 0
            raise OSError(number, f"sendmmsg: {os.strerror(number)}")
        self._next = (self._next + sent) % self.count
        return sent


@dataclass(frozen=True)
class OnCable:
    """Frames that leave from a packet socket."""

    socket: socket.socket
    batches: Batches
    at_once: int = BATCH

    def send(self, most: int) -> int:
        """Send up to `most` frames; how many the cable took."""
        return self.batches.send(self.socket.fileno(), min(most, self.at_once))


@dataclass(frozen=True)
class Rate:
    """What a flood achieved: packets sent, in how many seconds."""

    sent: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Packets a second."""
        return self.sent / self.seconds if self.seconds else 0.0


class Flood:
    """SYNs from spoofed addresses at a listener that are never acknowledged; sent by threads of its own.

    Made by flood(). `with` stops it at the end of the block; it stops by itself at its bound.
    """

    def __init__(self, senders: Sequence[Sender], count: int | None, seconds: float, rate: float | None) -> None:
        self._count = count
        self._seconds = seconds
        self._rate = rate
        self._stopped = False
        self._lock = threading.Lock()
        self._error: OSError | None = None
        self._granted = 0
        self._started = time.monotonic()
        self._ended: float | None = None
        # Each sender writes its own.
        self._sent = [0] * len(senders)
        self._threads = [
            threading.Thread(target=self._run, args=(i, sender), name=f"flood {i}", daemon=True)
            for i, sender in enumerate(senders)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def sent(self) -> int:
        """How many frames were sent up to now."""
        return sum(self._sent)

    def _grant(self, most: int) -> int | None:
        """How many of `most` frames a sender may send now; None when the flood is over."""
        with self._lock:
            elapsed = time.monotonic() - self._started
            if self._stopped or elapsed >= self._seconds:
                return None
            if self._count is not None:
                most = min(most, self._count - self._granted)
                if most == 0:
                    return None
            self._granted += most
            return most

    def _over(self) -> bool:
        return self._stopped or time.monotonic() - self._started >= self._seconds

    def _run(self, number: int, sender: Sender) -> None:
        # A signal that comes to this thread would break off what it sends.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            if self._rate is None:
                self._send_on(number, sender)
            else:
                self._keep_pace(number, sender, self._rate / len(self._sent))
        except OSError as error:
            self._error = error
        self._ended = time.monotonic()

    def _send_on(self, number: int, sender: Sender) -> None:
        """One of the senders of a flood that nothing holds back."""
        while (granted := self._grant(sender.at_once)) is not None:
            while granted and not self._over():
                sent = sender.send(granted)
                granted -= sent
                if sent == 0:  # see raw.put()
                    time.sleep(SHORTEST_PAUSE)
                self._sent[number] += sent

    def _keep_pace(self, number: int, sender: Sender, rate: float) -> None:
        """A sender of a flood that is held back: to the end, a frame when it is due.

        It sleeps once a frame, and does little else: a machine that is emulated takes a hundred times as long for each
        line of this as for the frame. Who looks more often takes the processor from what is flooded, and who sleeps
        longer does not notice that the flood is to stop.
        """
        # A wait for a threading.Event that times out costs as much as ten of these sleeps.
        monotonic, sleep = time.monotonic, time.sleep
        started, seconds = self._started, self._seconds
        count = sys.maxsize if self._count is None else self._count
        sent = 0
        while sent < count and not self._stopped:
            elapsed = monotonic() - started
            if elapsed >= seconds:
                break
            due = min(int(elapsed * rate), count) - sent
            if due > 0:
                took = sender.send(due)
                sent += took
                self._sent[number] = sent
                if took < due:  # more are due; or there was no room, see raw.put()
                    sleep(0 if took else SHORTEST_PAUSE)
                    continue
            pause = (sent + 1) / rate - elapsed
            sleep(SHORTEST_PAUSE if pause < SHORTEST_PAUSE else min(pause, LONGEST_PAUSE))

    def running(self) -> bool:
        """Whether it still sends."""
        return any(thread.is_alive() for thread in self._threads)

    def rate(self) -> Rate:
        """The rate achieved up to now, or up to its end."""
        ended = None if self.running() else self._ended
        return Rate(self.sent, (ended or time.monotonic()) - self._started)

    def wait(self) -> Rate:
        """Wait until it has reached its bound."""
        for thread in self._threads:
            thread.join()
        if self._error is not None:
            raise self._error
        return self.rate()

    def stop(self) -> Rate:
        """Stop it now."""
        self._stopped = True
        return self.wait()

    def __enter__(self) -> Flood:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def flood(
    host: Host,
    near: Host,
    to: Listener | int,
    *,
    count: int | None = None,
    seconds: float | None = None,
    rate: float | None = None,
    distinct: int = DISTINCT,
) -> Flood:
    """Flood a listener of `host` with SYNs from the other end of its cable, where `near` is.

    Bounded by `count` packets, or `seconds`, or both; `rate` (packets a second) holds it back. `distinct` is how many
    different (address, port) pairs take part before they repeat: a SYN that repeats while its request still waits
    is a retransmission and makes no new request. Raises BadInput without a bound.

    More than 200,000 in a second, unless bounded to 200,000 or fewer by `count`, arrive at the interface of `host`
    without having been on the cable, where the cable's line does nothing with what passes, and the kernel and the
    caller's rights allow it: see harness/traffic/arriving.py.
    """
    if count is None and seconds is None:
        raise BadInput("a flood needs a bound: count (packets) or seconds")
    if seconds is not None and not 0 < seconds <= LONGEST:
        raise BadInput(f"a flood lasts up to {LONGEST:g} seconds, not {seconds:g}")
    peer = RawPeer(host, near)
    peer.claim_spoofed_network()
    port = to.port if isinstance(to, Listener) else to
    template = peer.frame(ports=(1024, port), flags="S", options=SYN_OPTIONS)
    made = list(frames.spoofed(template, host.family, distinct if count is None else min(distinct, count)))
    # Frames arrive on the processor that sends, so at full speed each processor needs a sender of its own. Bounded
    # in count or held back to less than one can send, one is enough, and no frame goes twice before all have gone once.
    is_fast = (rate is None or rate > OF_ONE_SENDER) and (count is None or count > OF_ONE_SENDER)
    n = 1
    if is_fast and count is None:
        # As many as that rate takes: more would have the kernel prepare more runs, of fewer frames.
        n = min(_processors(), len(made), sys.maxsize if rate is None else math.ceil(rate / OF_ONE_SENDER))
    shares = [made[i::n] for i in range(n)]
    senders: Sequence[Sender] | None = None
    # What a line does, it does to what is sent.
    if is_fast and host.lab.cable_of(host).line.does_nothing and can_arrive():
        senders = _all_arriving(host, shares)
    if senders is None:
        senders = [_on_cable(host, near, share) for share in shares]
    running = Flood(senders, count, LONGEST if seconds is None else seconds, rate)
    host.lab.on_close(running.stop)
    return running


def _processors() -> int:
    return len(os.sched_getaffinity(0))


def _on_cable(host: Host, near: Host, made: Sequence[bytes]) -> OnCable:
    """A sender at the end of the cable where `near` is."""
    with near:
        sending = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sending.bind((_interface(host, near), 0))
    sending.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
    host.lab.on_close(sending.close)
    return OnCable(sending, Batches(made))


def _all_arriving(host: Host, shares: Sequence[Sequence[bytes]]) -> list[Arriving] | None:
    """Senders at the interface of `host` itself; None where the kernel does without one thing or another of it."""
    try:
        return [_arriving(host, share) for share in shares]
    except OSError:
        return None


def _arriving(host: Host, made: Sequence[bytes]) -> Arriving:
    """A sender at the interface of `host` itself, for more than a cable can carry."""
    arriving = Arriving(host, _interface(host, host), made)
    host.lab.on_close(arriving.close)
    return arriving


def _interface(host: Host, end: Host) -> str:
    """The interface of one end of a host's cable."""
    (interface,) = (name for member, name in host.lab.cable_of(host).members if member is end)
    return interface


__all__ = ["ETH_P_ALL", "Batches", "Flood", "Rate", "flood"]
