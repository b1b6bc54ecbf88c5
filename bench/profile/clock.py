"""What a process has cost so far: processor time of its own, of the kernel for it, and of children that have ended.

In simulated time a nanosecond of it is an instruction of the machine (QEMU's -icount shift=0).
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_FIELDS = slice(4, 6)  # /proc/stat: idle, iowait
TICKS = os.sysconf("SC_CLK_TCK")


def own() -> float:
    """Processor seconds of this process, as precise as the scheduler knows them."""
    return time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)


def split() -> dict[str, float]:
    """User and kernel, of this process and of its children that have been waited for, in seconds."""
    now = os.times()
    return {
        "user": now.user,
        "kernel": now.system,
        "children": now.children_user + now.children_system,
    }


def machine_busy() -> float:
    """How many seconds the machine's only processor was not idle since its boot."""
    with Path("/proc/stat").open("rb") as file:
        idle = sum(map(int, file.readline().split()[IDLE_FIELDS])) / TICKS
    return time.clock_gettime(time.CLOCK_BOOTTIME) - idle


def of_process(pid: int) -> float:
    """Processor seconds of another process, all of its threads; 0 if it is no more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def children_of(pid: int) -> list[int]:
    """A process's children."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


class Parts:
    """Processor time by part; what is within another part is not that one's."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._open: list[str] = []
        self._since = own()

    def _count(self) -> None:
        now = own()
        if self._open:
            self.spent[self._open[-1]] += now - self._since
        self._since = now

    def enter(self, part: str) -> None:
        """The part begins."""
        self._count()
        self._open.append(part)
        self.calls[part] += 1

    def leave(self) -> None:
        """It ends."""
        self._count()
        self._open.pop()

    def take(self) -> tuple[dict[str, float], dict[str, int]]:
        """What was spent, and how often each part was entered, since the last time."""
        self._count()
        taken = dict(self.spent), dict(self.calls)
        self.spent.clear()
        self.calls.clear()
        return taken

    def beside(self, owner: Any, name: str, what: str) -> None:
        """Count all calls of a function, and what they take, in whichever part they are."""
        inner: Callable[..., Any] = getattr(owner, name)

        def measured(*arguments: Any, **named: Any) -> Any:
            began = own()
            try:
                return inner(*arguments, **named)
            finally:
                self.spent[what] += own() - began
                self.calls[what] += 1

        setattr(owner, name, measured)

    def around(self, owner: Any, name: str, part: str) -> None:
        """Count all calls of a function, or of a method, as a part."""
        inner: Callable[..., Any] = getattr(owner, name)

        def measured(*arguments: Any, **named: Any) -> Any:
            self.enter(part)
            try:
                return inner(*arguments, **named)
            finally:
                self.leave()

        setattr(owner, name, measured)
