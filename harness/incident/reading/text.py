"""Text, line by line: whichever reader knows the line goes on until it meets one that it does not.

So a file may be one command's output, many in a row, a transcript with prompts, or a page that quotes some.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO

from harness.incident.facts import Basis, Moment
from harness.incident.machine import FileRead
from harness.incident.reading.conntrack import Conntrack
from harness.incident.reading.counters import (
    ConntrackStatistics,
    Nstat,
    ProcTables,
    Snmp6,
    Sockstat,
    Softnet,
)
from harness.incident.reading.exporter import Exporter
from harness.incident.reading.lines import lines, plain, shown
from harness.incident.reading.log import KernelLog
from harness.incident.reading.netstat import NetstatRows, NetstatS
from harness.incident.reading.proc_tcp import ProcTcp
from harness.incident.reading.small import Configuration, Limits, Memory, Offloads, OneLine
from harness.incident.reading.ss import SsRows, SsSummary
from harness.incident.reading.sysctl import ProcSys, Sysctls
from harness.incident.reading.typed import typed

if TYPE_CHECKING:
    from harness.incident.reading.context import Context, Reader

READERS: tuple[type[Reader], ...] = (
    NetstatRows, NetstatS, SsRows, SsSummary, ProcTcp, ProcTables, Snmp6, Nstat, Sockstat, Softnet, ConntrackStatistics,
    Conntrack, Exporter, Sysctls, Limits, Memory, Configuration, Offloads, OneLine, KernelLog,
)  # fmt: skip

DATE = re.compile(
    r"^\w{3} (?P<month>\w{3}) +(?P<day>\d{1,2}) (?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?: [AP]M)? "
    r"(?P<zone>\w+) (?P<year>\d{4})$"
)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


OPENING = re.compile("|".join(kind.opening for kind in READERS if kind.opening))


def reader_of(line: str, context: Context) -> type[Reader] | None:
    """Whose output begins with this line; None for nobody's."""
    if ProcSys.starts(line, context):
        return ProcSys
    if OPENING.match(line) is None:
        return None
    return next((kind for kind in READERS if kind.starts(line, context)), None)


class Parts:
    """The parts of one text."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.own = self.namespace = context.namespace
        self.reader: Reader | None = None
        self.first = self.last = 0
        self.kinds: dict[str, int] = {}
        self.date = context.taken
        self.dated: set[tuple[str, str]] = set()

    def line(self, number: int, line: str) -> None:
        """One line."""
        if self.reader and self.reader.feed(number, line):
            self.last = number
            return
        self.close()
        if taken := moment(line):
            self.date, self.dated = taken, set()
            self.context = replace(self.context, taken=taken)
        elif given := typed(line):
            space = plain(given.namespace, 64) if given.namespace else self.namespace
            if given.is_shell:
                # An interactive shell says "exit" itself after it was typed: however often, its end leads back.
                space = self.namespace = space if given.namespace else self.own
            self.context = replace(self.context, command=plain(given.command), namespace=space, before="", path="")
        else:
            self._start(number, line)

    def _start(self, number: int, line: str) -> None:
        kind = reader_of(line, self.context)
        if kind and self.date and self.date.basis is Basis.SAID:
            # A date holds for what follows, but not for a second output of the same kind by the same command.
            output = kind.kind, self.context.command
            taken = None if output in self.dated else self.date
            self.dated.add(output)
            self.context = replace(self.context, taken=taken)
        reader = kind(self.context) if kind else None
        if reader and reader.feed(number, line):
            self.reader, self.first, self.last = reader, number, number
        elif line.strip():
            before = "" if self.context.command.startswith("cat ") else self.context.command
            self.context = replace(self.context, before=line, command=before)

    def close(self) -> None:
        """The part is over."""
        if self.reader is None:
            return
        self.reader.finish()
        kind, context = self.reader.kind, self.context
        size = self.last - self.first + 1
        self.kinds[kind] = self.kinds.get(kind, 0) + size
        context.draft.files.append(FileRead(context.source(self.first), kind, size, context.namespace, context.taken))
        self.reader = None
        self.context = replace(context, before="")


def read_text(stream: BinaryIO, context: Context) -> dict[str, int]:
    """Read a text; how many lines of which kinds were in it."""
    parts = Parts(context)
    for number, line in lines(stream):
        parts.line(number, line)
    parts.close()
    return parts.kinds


def is_known(head: bytes, context: Context) -> bool:
    """Whether the begin of a file has something that we read."""
    for line in head.decode("utf-8", errors="replace").splitlines():
        text = shown(line)
        given = typed(text)
        if (given and given.command) or reader_of(text, context):
            return True
    return False


def moment(line: str) -> Moment | None:
    """What `date` prints, in the C locale. Zones other than UTC are taken for UTC: only differences matter."""
    match = DATE.match(line.strip())
    if match is None or match["month"] not in MONTHS:
        return None
    day, hour, minute, second, year = (int(match[name]) for name in ("day", "hour", "minute", "second", "year"))
    try:
        said = datetime(year, MONTHS.index(match["month"]) + 1, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return Moment(said.timestamp(), Basis.SAID)
