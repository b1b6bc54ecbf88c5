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
from harness.incident.reading.lines import lines
from harness.incident.reading.log import KernelLog
from harness.incident.reading.netstat import NetstatRows, NetstatS
from harness.incident.reading.proc_tcp import ProcTcp
from harness.incident.reading.small import Configuration, Limits, Memory, Offloads, OneLine
from harness.incident.reading.ss import SsRows, SsSummary
from harness.incident.reading.sysctl import ProcSys, Sysctls

if TYPE_CHECKING:
    from harness.incident.reading.context import Context, Reader

READERS: tuple[type[Reader], ...] = (
    NetstatRows, NetstatS, SsRows, SsSummary, ProcTcp, ProcTables, Snmp6, Nstat, Sockstat, Softnet, ConntrackStatistics,
    Conntrack, Exporter, ProcSys, Sysctls, Limits, Memory, Configuration, Offloads, OneLine, KernelLog,
)  # fmt: skip

PROGRAMS = "ss|netstat|nstat|sysctl|cat|dmesg|journalctl|uname|uptime|conntrack|ethtool|lscpu|date|lnstat"
COMMAND = re.compile(
    rf"^\s*(?:[^\s$#]{{0,60}}[^$#]{{0,60}}[$#]\s+)?(?:date\s*;\s*)?(?:sudo\s+)?"
    rf"(?:ip netns exec (?P<namespace>[\w.@:-]+)\s+)?(?P<command>(?:{PROGRAMS})(?:\s+[-/|'\"(\w].*)?)$"
)
DATE = re.compile(
    r"^\w{3} (?P<month>\w{3}) +(?P<day>\d{1,2}) (?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?: [AP]M)? "
    r"(?P<zone>\w+) (?P<year>\d{4})$"
)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Parts:
    """The parts of one text."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.reader: Reader | None = None
        self.first = self.last = 0
        self.kinds: dict[str, int] = {}

    def line(self, number: int, line: str) -> None:
        """One line."""
        if self.reader and self.reader.feed(number, line):
            self.last = number
            return
        self.close()
        if taken := moment(line):
            self.context = replace(self.context, taken=taken)
        elif command := COMMAND.match(line):
            space = command["namespace"] or self.context.namespace
            self.context = replace(self.context, command=command["command"], namespace=space, before="", path="")
        else:
            self._start(number, line)

    def _start(self, number: int, line: str) -> None:
        kind = next((kind for kind in READERS if kind.starts(line, self.context)), None)
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
        text = line.rstrip("\r")
        if COMMAND.match(text) and not context.path.startswith("etc/"):
            return True
        if any(kind.starts(text, context) for kind in READERS):
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
