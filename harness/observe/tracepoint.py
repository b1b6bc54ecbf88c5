"""A kernel tracepoint, listened to with perf events: nothing is mounted anywhere, named anywhere, or left behind."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import re
import struct
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import Forbidden, HarnessError, Unsupported
from harness.lab import isolation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "loongarch64": 241, "ppc64le": 319, "s390x": 331}

# include/uapi/linux/perf_event.h, struct perf_event_attr (PERF_ATTR_SIZE_VER4): type, size, config, period,
# sample_type, then flags, clockid.
ATTRIBUTES = struct.Struct("=IIQQQ8xQ44xi8x")
PERF_TYPE_TRACEPOINT = 2
PERF_SAMPLE_TIME, PERF_SAMPLE_CPU, PERF_SAMPLE_RAW = 1 << 2, 1 << 7, 1 << 10
DISABLED, USE_CLOCKID = 1 << 0, 1 << 25
PERF_FLAG_FD_CLOEXEC = 8
ENABLE, DISABLE = 0x2400, 0x2401
SET_FILTER = 0x40082406  # _IOW('$', 6, char *)
PERF_RECORD_LOST, PERF_RECORD_SAMPLE = 2, 9
RECORD = struct.Struct("=IHH")
SAMPLE = struct.Struct("=QIII")
LOST = struct.Struct("=QQ")
POSITION = struct.Struct("=Q")
HEAD, TAIL = 1024, 1032

ONLINE = Path("/sys/devices/system/cpu/online")
TRACEFS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
FIELD = re.compile(r"field:.*?(\w+)(?:\[\d*\])?;\s*offset:(\d+);\s*size:(\d+);\s*signed:(\d);")
SYMBOL = re.compile(r'\{ *(0x[0-9a-f]+|\d+) *, *"(\w+)" *\}')

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Format:
    """The layout of a tracepoint's records: its number, its fields (offset, size, signed), names of values."""

    number: int
    fields: dict[str, tuple[int, int, bool]]
    symbols: dict[int, str]

    def value(self, record: bytes, field: str) -> int:
        """An integer field of a record."""
        offset, size, signed = self.fields[field]
        return int.from_bytes(record[offset : offset + size], "little", signed=signed)


def parse_format(text: str) -> Format:
    """Parse a tracepoint's `format` file."""
    number = re.search(r"^ID: (\d+)", text, re.MULTILINE)
    if number is None:
        raise HarnessError(f"not the format of a tracepoint: {text[:80]!r}")
    fields = {name: (int(offset), int(size), sign == "1") for name, offset, size, sign in FIELD.findall(text)}
    symbols = {int(value, 0): name for value, name in SYMBOL.findall(text.partition("print fmt:")[2])}
    return Format(int(number[1]), fields, symbols)


def read_format(event: str) -> Format:
    """The format of a tracepoint such as `skb/kfree_skb`. Raises Forbidden, Unsupported."""
    for directory in TRACEFS:
        try:
            return parse_format(Path(directory, "events", event, "format").read_text())
        except OSError:
            continue
    tracefs = _detached_tracefs()
    try:
        descriptor = os.open(f"events/{event}/format", os.O_RDONLY, dir_fd=tracefs)
        with os.fdopen(descriptor) as file:
            return parse_format(file.read())
    except FileNotFoundError:
        raise Unsupported(f"this kernel has no tracepoint {event}") from None
    finally:
        os.close(tracefs)


def _detached_tracefs() -> int:
    """A tracefs mounted at no path: the file descriptor is all there is of it."""
    try:
        return isolation.detached("tracefs")
    except PermissionError:
        raise Forbidden(
            "tracefs can be read by root of the machine only (CAP_SYS_ADMIN outside a user namespace)"
        ) from None
    except OSError as error:
        raise Unsupported(f"this kernel has no tracefs (CONFIG_TRACING): {error.strerror}") from None


def _system_call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(number, *arguments)
    return result


@dataclass(frozen=True, slots=True)
class Sample:
    """One hit of a tracepoint: `time_ns` since the epoch, the CPU, and the record as the kernel wrote it."""

    time_ns: int
    cpu: int
    record: bytes


class Recorder:
    """Records one tracepoint on every CPU between `with` and its end. Raises Forbidden, Unsupported on entry.

    `pages` of memory, a power of two, hold what was not read yet on each CPU; `lost` counts what found no room.
    `only` is a condition on the fields ("reason == 3 || reason == 6") that the kernel checks before it records.
    """

    def __init__(self, format: Format, pages: int, only: str = "") -> None:  # noqa: A002
        self._format = format
        self._pages = pages
        self._only = only
        self._events: list[int] = []
        self._rings: list[mmap.mmap] = []
        self._close = ExitStack()
        self._epoch = _epoch_of_the_monotonic_clock()
        self.lost = 0

    def __enter__(self) -> Recorder:
        with ExitStack() as undo:
            for cpu in _online_cpus():
                event = _open_event(self._format.number, cpu)
                undo.callback(os.close, event)
                if self._only:
                    fcntl.ioctl(event, SET_FILTER, self._only.encode() + b"\0")
                ring = mmap.mmap(event, (1 + self._pages) * mmap.PAGESIZE)
                undo.callback(ring.close)
                self._events.append(event)
                self._rings.append(ring)
            self._close = undo.pop_all()
        self._control(ENABLE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rings, self._events = [], []
        self._close.close()

    def stop(self) -> None:
        """Hear no more; what was heard can still be read."""
        self._control(DISABLE)

    def read(self) -> list[Sample]:
        """What was heard since the last read, CPU by CPU."""
        return [sample for ring in self._rings for sample in self._drain(ring)]

    def _control(self, command: int) -> None:
        for event in self._events:
            fcntl.ioctl(event, command, 0)

    def _drain(self, ring: mmap.mmap) -> Iterator[Sample]:
        head, tail = POSITION.unpack_from(ring, HEAD)[0], POSITION.unpack_from(ring, TAIL)[0]
        while tail < head:
            kind, _, size = RECORD.unpack(self._bytes(ring, tail, RECORD.size))
            body = self._bytes(ring, tail + RECORD.size, size - RECORD.size)
            if kind == PERF_RECORD_SAMPLE:
                time_ns, cpu, _, length = SAMPLE.unpack_from(body)
                yield Sample(self._epoch + time_ns, cpu, body[SAMPLE.size : SAMPLE.size + length])
            elif kind == PERF_RECORD_LOST:
                self.lost += LOST.unpack_from(body)[1]
            tail += size
        POSITION.pack_into(ring, TAIL, tail)

    def _bytes(self, ring: mmap.mmap, position: int, count: int) -> bytes:
        """Bytes of the ring, which follows one page of positions and wraps around."""
        size = self._pages * mmap.PAGESIZE
        start = mmap.PAGESIZE + position % size
        first = ring[start : min(start + count, mmap.PAGESIZE + size)]
        return first + ring[mmap.PAGESIZE : mmap.PAGESIZE + count - len(first)]


def _open_event(tracepoint: int, cpu: int) -> int:
    number = PERF_EVENT_OPEN.get(platform.machine())
    if number is None:
        raise Unsupported(f"perf_event_open: its number on {platform.machine()} is not known here")
    attributes = ATTRIBUTES.pack(
        PERF_TYPE_TRACEPOINT,
        ATTRIBUTES.size,
        tracepoint,
        1,  # a sample for each hit
        PERF_SAMPLE_TIME | PERF_SAMPLE_CPU | PERF_SAMPLE_RAW,
        DISABLED | USE_CLOCKID,
        time.CLOCK_MONOTONIC,  # perf takes only clocks that can be read in an NMI (perf_event_set_clock())
    )
    event = _system_call(number, attributes, -1, cpu, -1, ctypes.c_ulong(PERF_FLAG_FD_CLOEXEC))
    if event >= 0:
        return event
    error = ctypes.get_errno()
    if error in (errno.EPERM, errno.EACCES):
        raise Forbidden(
            "perf_event_open: tracepoints of the whole machine need CAP_PERFMON outside a user namespace, "
            "or kernel.perf_event_paranoid=-1"
        )
    raise Unsupported(f"perf_event_open: {os.strerror(error)}")


def _epoch_of_the_monotonic_clock() -> int:
    """Nanoseconds to add to CLOCK_MONOTONIC for CLOCK_REALTIME: of several looks the least interrupted."""
    looks = []
    for _ in range(5):
        before, real, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        looks.append((after - before, real - (before + after) // 2))
    return min(looks)[1]


def _online_cpus() -> list[int]:
    """The CPUs in /sys, a list like `0-3,6`; without /sys those that this process may use."""
    try:
        ranges = [part.partition("-") for part in ONLINE.read_text().strip().split(",")]
    except OSError:
        return sorted(os.sched_getaffinity(0))
    return [cpu for first, _, last in ranges for cpu in range(int(first), int(last or first) + 1)]
