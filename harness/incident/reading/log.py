"""The kernel's log: dmesg in each of its formats, journalctl -k, syslog. What matters to TCP is kept."""

from __future__ import annotations

import re

from harness.incident.collector.kernel import TOLD
from harness.incident.machine import LogLine, Told
from harness.incident.reading.context import Context, Reader
from harness.incident.reading.lines import plain

DMESG = re.compile(r"^(?:<\d+>|\w+ *: *\w+ *: *)?\[ *(?:(\d+\.\d+)|\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4})\]")
SYSLOG = re.compile(r"^(?:\w{3} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\S+) \S+ (kernel: )?")
UPTIME = re.compile(r"\[ *(\d{1,12}\.\d+)\]")
KINDS = {
    **{Told(name): pattern for name, pattern in TOLD.items()},
    Told.TABLES: re.compile(r"TCP (?:established |bind )?hash table|TCP: Hash tables configured|nf_conntrack version"),
    Told.VERSION: re.compile(r"\bLinux version \d"),
}
VERSION = re.compile(r"Linux version (\S+) .*?(#\d+.*)$")
# Whatever matters has one of these words: most lines have none.
WORDS = ("TCP", "conntrack", "orphan", "time wait", "eighbo", "emory", "oom", "alloc", "Linux version")


class KernelLog(Reader):
    """A log; lines of other programs in it are passed over."""

    kind = "kernel log"
    opening = r"<\d|\[|\w+ *: *\w+ *: *\[|[A-Z][a-z]{2} [ \d]\d |\d{4}-\d\d-\d\dT"

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        return DMESG.match(line) is not None or SYSLOG.match(line) is not None

    def feed(self, number: int, line: str) -> bool:
        if any(word in line for word in WORDS):
            # What other programs write can be anybody's words.
            syslog = SYSLOG.match(line)
            if syslog is None or syslog[1]:
                self._note(number, line)
        return self.starts(line, self.context) or line[:1].isspace() or line[:1].isdecimal() or line[3:4] == " "

    def _note(self, number: int, line: str) -> None:
        told = next((kind for kind, pattern in KINDS.items() if pattern.search(line)), None)
        if told is None:
            return
        uptime = UPTIME.search(line)
        source = self.context.source(number)
        self.context.draft.tell(LogLine(told, plain(line), source, float(uptime[1]) if uptime else None))
        if (version := VERSION.search(line)) and told is Told.VERSION:
            self.context.say("kernel", self.context.fact(plain(version[1]), number))
            self.context.say("build", self.context.fact(plain(version[2]), number))
