"""The kernel's own complaints in its log: warnings, bugs, lockdep's and the sanitizers' reports, stalls, hung tasks.

What they begin with stands in kernel/panic.c (__warn()), lib/bug.c, kernel/locking/lockdep.c, kernel/rcu/tree_stall.h,
kernel/hung_task.c, kernel/watchdog.c, mm/kasan/report.c, kernel/kcsan/report.c, mm/kfence/report.c, lib/ubsan.c,
net/core/dev.c (netdev_wait_allrefs_any()).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.observe.kernel_log import Record

TAINTED = Path("/proc/sys/kernel/tainted")
# Documentation/admin-guide/tainted-kernels.rst: the letter of each bit.
TAINT_LETTERS = "PFSRMBUDAWCIOELKXTN"

# The first that a line has says what kind of complaint begins with it.
BEGINNINGS = (
    ("KASAN", r"BUG: KASAN: "),
    ("KCSAN", r"BUG: KCSAN: "),
    ("KMSAN", r"BUG: KMSAN: "),
    ("KFENCE", r"BUG: KFENCE: "),
    ("UBSAN", r"UBSAN: "),
    (
        "lockdep",
        r"WARNING: (?:possible (?:circular|recursive|irq)|inconsistent lock state|bad unlock balance|bad contention "
        r"detected|suspicious RCU usage|held lock freed|lock held when returning|Nested lock|.*-safe -> .*-unsafe)"
        r"|INFO: trying to register non-static key|\[ BUG: Invalid wait context \]|BUG: MAX_LOCK|DEBUG_LOCKS_WARN_ON",
    ),
    ("RCU stall", r"INFO: \w+ (?:self-)?detected (?:expedited )?stall"),
    ("hung task", r"INFO: task .+:\d+ (?:blocked|is blocked) (?:for more than|on )"),
    ("lockup", r"BUG: (?:soft lockup|workqueue lockup)|detected hard LOCKUP"),
    ("leaked device", r"unregister_netdevice: waiting for \S+ to become free"),
    ("memory leak", r"kmemleak: \d+ new suspected memory leaks"),
    ("WARN", r"^WARNING: "),
    ("BUG", r"^kernel BUG at |^BUG: |^Oops|^general protection fault|^stack segment|^divide error|^Kernel panic"),
)
_BEGINNINGS = tuple((kind, re.compile(pattern)) for kind, pattern in BEGINNINGS)
# Lines that announce one, and belong to it; and the line that ends one.
_ANNOUNCED = re.compile(r"^-+\[ cut here \]-+$|^={20,}$")
# What a WARN() says itself stands between that line and the one that names the place (kernel/panic.c, __warn_printk()).
_CUT = "[ cut here ]------------"
MOST_SAID = 8
_END = re.compile(r"^---\[ end trace ")
# What a complaint consists of follows without a pause, in seconds of the kernel's clock.
PAUSE = 1.0
MOST_LINES = 200
_TASK = re.compile(r"INFO: task .+:(\d+) ")


@dataclass(frozen=True, slots=True)
class Complaint:
    """One complaint: its kind, the line that names the matter, all its lines, and when, in seconds since boot."""

    kind: str
    headline: str
    lines: tuple[str, ...]
    time: float

    @property
    def task(self) -> int | None:
        """The process that a hung task's complaint is of."""
        found = _TASK.search(self.headline)
        return int(found[1]) if found else None

    def __str__(self) -> str:
        return "\n".join(self.lines)


def complaints_in(records: Sequence[Record]) -> list[Complaint]:
    """The complaints in a part of the kernel's log, in their order."""
    return list(_complaints(records))


def _complaints(records: Sequence[Record]) -> Iterator[Complaint]:
    at = ended = 0
    while at < len(records):
        kind = _kind_of(records[at].text)
        if kind is None:
            at += 1
            continue
        begin = _begin_of(records, at, ended)
        end = ended = _end_of(records, at, kind)
        lines = tuple(str(record) for record in records[begin:end])
        yield Complaint(kind, records[at].text, lines, records[at].time)
        at = end


def _begin_of(records: Sequence[Record], at: int, ended: int) -> int:
    """The number of the first record of the complaint that this one names; the one before it had `ended`."""
    if at > ended and _ANNOUNCED.match(records[at - 1].text):
        return at - 1
    for before in range(at - 1, max(ended, at - 1 - MOST_SAID) - 1, -1):
        if records[before + 1].time - records[before].time > PAUSE:
            break
        if records[before].text.endswith(_CUT):
            return before
    return at


def _kind_of(line: str) -> str | None:
    return next((kind for kind, pattern in _BEGINNINGS if pattern.search(line)), None)


def _end_of(records: Sequence[Record], begin: int, kind: str) -> int:
    """The number of the first record that does not belong to the complaint that begins with this one."""
    for at in range(begin + 1, min(len(records), begin + MOST_LINES)):
        line = records[at].text
        if _END.match(line):
            return at + 1
        apart = records[at].time - records[at - 1].time > PAUSE
        # An oops says "BUG:", then "Oops:", then perhaps "Kernel panic": one complaint.
        another = _kind_of(line) not in (None, kind) if kind != "BUG" else False
        if apart or another or (at > begin + 1 and line.endswith(_CUT)):
            return at
    return min(len(records), begin + MOST_LINES)


def taint() -> int:
    """The kernel's taint flags, as /proc/sys/kernel/tainted has them; 0 where it does not show them."""
    try:
        return int(TAINTED.read_text())
    except (OSError, ValueError):
        return 0


def letters(flags: int) -> str:
    """The letters of taint flags: "W" is a kernel that has warned."""
    known = [letter for bit, letter in enumerate(TAINT_LETTERS) if flags >> bit & 1]
    more = [str(bit) for bit in range(len(TAINT_LETTERS), flags.bit_length()) if flags >> bit & 1]
    return "".join(known) + (f" and bits {', '.join(more)}" if more else "")
