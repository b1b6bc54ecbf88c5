"""Which functions a test spends its time in, of the kernel, of programs and of Python: samples every so often.

The kernel's own sampler (perf_event_open(2), the clock of the processor) looks at this process and at those that it
starts, in a machine of simulated time after so many instructions; a signal after so much processor time (ITIMER_PROF)
asks the interpreter which function it is in. Both are read when a test ends. A sampler of all processors would not let
them idle: in simulated time, where an idle minute costs nothing, it was half of what a suite cost.
"""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import mmap
import os
import signal
import struct
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

SYS_PERF_EVENT_OPEN = 298  # x86_64
SOFTWARE, CPU_CLOCK = 1, 0
IP, TID = 1, 2
INHERIT = 2
PAGES = 1 << 12
# In nanoseconds.
EVERY = 1_000_000
PYTHON_EVERY = 0.004
KERNEL_BEGINS = 1 << 63
SAMPLE = struct.Struct("=IHHQII")
PERF_RECORD_SAMPLE = 9
SHOWN = 100


class Sampler:
    """Samples of this process and its children while a test runs."""

    def __init__(self) -> None:
        self.rings = [Ring(cpu) for cpu in range(os.cpu_count() or 1)]
        self.symbols = kernel_symbols()
        self.addresses = [address for address, _ in self.symbols]
        self.python: Counter[str] = Counter()

    def begin(self) -> None:
        """Forget what was, and begin."""
        self.python.clear()
        signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, PYTHON_EVERY, PYTHON_EVERY)
        for ring in self.rings:
            ring.read()

    def _look(self, _number: int, frame: FrameType | None) -> None:
        if frame is None:
            return
        code = frame.f_code
        self.python[f"{Path(code.co_filename).name}:{code.co_name}"] += 1
        # What our functions cost with all that they call.
        within: set[str] = set()
        while frame is not None:
            code = frame.f_code
            if "/harness/" in code.co_filename:
                within.add(f"for {Path(code.co_filename).name}:{code.co_name}")
            frame = frame.f_back
        self.python.update(within)

    def end(self) -> dict[str, dict[str, int]]:
        """How many samples fell into which function: the kernel's, programs', and Python's."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        kernel: Counter[str] = Counter()
        programs: Counter[str] = Counter()
        for ring in self.rings:
            for address, pid in ring.read():
                if address >= KERNEL_BEGINS:
                    kernel[self._symbol(address)] += 1
                else:
                    programs[name_of(pid)] += 1
        return {
            "kernel": dict(kernel.most_common(SHOWN)),
            "programs": dict(programs.most_common(SHOWN)),
            "python": dict(self.python.most_common(SHOWN)),
        }

    def _symbol(self, address: int) -> str:
        place = bisect.bisect_right(self.addresses, address) - 1
        return self.symbols[place][1] if place >= 0 else hex(address)


class Ring:
    """The samples of one processor: a ring that the kernel writes and we read."""

    def __init__(self, cpu: int) -> None:
        about = struct.pack("=IIQQQQQ", SOFTWARE, 112, CPU_CLOCK, EVERY, IP | TID, 0, INHERIT).ljust(112, b"\0")
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.syscall(SYS_PERF_EVENT_OPEN, about, 0, cpu, -1, 0)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "perf_event_open")
        self.size = PAGES * mmap.PAGESIZE
        self.map = mmap.mmap(self.fd, self.size + mmap.PAGESIZE)

    def read(self) -> list[tuple[int, int]]:
        """The samples since the last time: address and process."""
        head, tail = struct.unpack_from("=QQ", self.map, 1024)
        found = []
        while tail < head:
            at = mmap.PAGESIZE + tail % self.size
            record = self.map[at : at + SAMPLE.size].ljust(SAMPLE.size, b"\0")
            kind, _, size, address, pid, _ = SAMPLE.unpack(record)
            if not size:
                break
            if kind == PERF_RECORD_SAMPLE:
                found.append((address, pid))
            tail += size
        struct.pack_into("=Q", self.map, 1032, head)
        return found


def kernel_symbols() -> list[tuple[int, str]]:
    """The kernel's functions by address (/proc/kallsyms)."""
    found = []
    for line in Path("/proc/kallsyms").read_text().splitlines():
        address, kind, name = line.split()[:3]
        if kind in "tTwW":
            found.append((int(address, 16), name))
    return sorted(found)


def name_of(pid: int) -> str:
    """What a process is called; what has ended is "ended"."""
    if pid == os.getpid():
        return "pytest"
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return "ended"
