"""What netstat(8) prints, of every net-tools: sockets, and the sentences of `netstat -s`."""

from __future__ import annotations

import re

from harness.evidence.types import SocketTimer
from harness.incident.counters import LeftOut, Sample
from harness.incident.facts import Fact
from harness.incident.reading.context import Context, Reader
from harness.incident.reading.lines import plain
from harness.incident.reading.sentences import SENTENCES
from harness.incident.reading.table import Row, Table, endpoint_of

# net-tools, netstat.c, tcp_state[], and how ss calls them.
STATES = {
    "ESTABLISHED": "ESTAB", "SYN_SENT": "SYN-SENT", "SYN_RECV": "SYN-RECV", "FIN_WAIT1": "FIN-WAIT-1",
    "FIN_WAIT2": "FIN-WAIT-2", "TIME_WAIT": "TIME-WAIT", "CLOSE": "UNCONN", "CLOSE_WAIT": "CLOSE-WAIT",
    "LAST_ACK": "LAST-ACK", "LISTEN": "LISTEN", "CLOSING": "CLOSING", "UNKNOWN": "UNKNOWN",
}  # fmt: skip
ROW = re.compile(r"^\s*tcp6?\s+(\d{1,10})\s+(\d{1,10})\s+(\S+)\s+(\S+)\s+([A-Z_0-9]+)\b(.*)$")
OTHER = re.compile(r"^\s*(udp|udplite|raw|unix|sctp|icmp|x25|ax25|bluetooth|l2cap|rfcomm)[6l]?\s")
HEADER = re.compile(r"^(Active (Internet|UNIX|IPX|AX\.25|X\.25|Bluetooth)|Proto |Proto\s+RefCnt)")
TIMER = re.compile(r"\b(on|keepalive|timewait|probe|persist)\s+\((\d{1,9}(?:\.\d+)?)/(\d{1,9})/(\d{1,9})\)")
PROGRAM = re.compile(r"\s(\d{1,10})/(\S{1,64})")
INODE = re.compile(r"^\s+\d+\s+(\d{1,20})\b")


class NetstatRows(Reader):
    """`netstat -nat` and its like. Of a listener, Send-Q is not the limit and says nothing."""

    kind = "netstat"
    opening = r"Active Internet|\s*tcp6?\s+\d"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.table = Table(context, limits=False)

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        match = ROW.match(line)
        return line.startswith("Active Internet") or (match is not None and match[5] in STATES)

    def feed(self, number: int, line: str) -> bool:
        match = ROW.match(line)
        if match and match[5] in STATES:
            self._row(number, match)
            return True
        return not line.strip() or OTHER.match(line) is not None or HEADER.match(line) is not None

    def finish(self) -> None:
        self.table.finish()

    def _row(self, number: int, match: re.Match[str]) -> None:
        local, peer = endpoint_of(match[3]), endpoint_of(match[4])
        if local is None or peer is None:
            self.table.lost(match[3], match[4])
            return
        details = match[6]
        timer, program, inode = (pattern.search(details) for pattern in (TIMER, PROGRAM, INODE))
        waits = SocketTimer(timer[1], float(timer[2]), int(timer[3])) if timer else None
        held_by = ((plain(program[2].rpartition("/")[2].rstrip(":"), 32), int(program[1])),) if program else ()
        mark = inode[1] if inode and inode[1] != "0" else ""
        self.table.add(Row(number, STATES[match[5]], local, peer, int(match[1]), int(match[2]), waits, mark, held_by))


GROUP = re.compile(r"^([A-Z][A-Za-z]{1,10}6?):$")
GROUPS = (
    "Ip",
    "Icmp",
    "IcmpMsg",
    "Tcp",
    "Udp",
    "UdpLite",
    "TcpExt",
    "IpExt",
    "MPTcpExt",
    "Sctp",
    "Ip6",
    "Icmp6",
    "Udp6",
)
UNREAD = ("Icmp", "Icmp6", "Sctp")
NAMED = re.compile(r"^\s+([A-Z]\w{1,60}): (\d{1,18})$", re.ASCII)
NUMBER = re.compile(r"\b\d{1,18}\b")
ALL_SENTENCES = {text: f"{group}.{name}" for group, table in SENTENCES.items() for text, name in table.items()}


class NetstatS(Reader):
    """`netstat -s`: counters that are 0 are mostly left out, and with grep all the others."""

    kind = "netstat -s"
    opening = r"[A-Z][A-Za-z]{1,10}6?:$|\s*\d+ [a-zA-Z]|\s*(?:Quick ack|Ran|TCP ran|Detected) "

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.group = ""
        self.groups: list[str] = []
        self.first = 0
        self.numbers: dict[str, Fact[int]] = {}
        self.sentences = self.strange = 0

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        group = GROUP.match(line)
        return (group is not None and group[1] in GROUPS) or _sentence(line) in ALL_SENTENCES

    def feed(self, number: int, line: str) -> bool:
        group = GROUP.match(line)
        if group:
            if group[1] not in GROUPS or group[1] in self.groups:
                return False
            self.group = group[1]
            self.groups.append(group[1])
        elif not self._counter(number, line):
            return not line.strip() or bool(self.group and line[:1].isspace())
        self.first = self.first or number
        return True

    def _counter(self, number: int, line: str) -> bool:
        named = NAMED.match(line)
        if named and self.group:
            self.numbers[f"{self.group}.{named[1]}"] = Fact(int(named[2]), self.context.source(number))
            return True
        sentence = _sentence(line)
        name = SENTENCES.get(self.group, {}).get(sentence)
        full = f"{self.group}.{name}" if name else ALL_SENTENCES.get(sentence) if not self.group else None
        if full is None or full in self.numbers:
            self.strange += full is None and self.group in ("Tcp", "TcpExt") and NUMBER.search(line) is not None
            return False
        self.sentences += 1
        self.numbers[full] = Fact(int(NUMBER.findall(line)[0]), self.context.source(number))
        return True

    def finish(self) -> None:
        if not self.numbers:
            return
        whole = "TcpExt" in self.groups or "Tcp" in self.groups
        translated = self.strange > self.sentences
        if translated:
            self.context.draft.notice(f"{self.context.file}: netstat -s of another language: use LC_ALL=C")
        choice = translated or not whole or "grep" in self.context.command
        left_out = LeftOut.SOME if choice else LeftOut.ZEROS
        # What it says of ICMP and SCTP is not read: nothing of them is 0 for that.
        printed = [group for group in self.groups if group not in UNREAD]
        groups = tuple(printed) or tuple(dict.fromkeys(name.partition(".")[0] for name in self.numbers))
        source = self.context.source(self.first)
        self.context.space.counters.append(Sample(source, self.numbers, groups, left_out, self.context.taken))


def _sentence(line: str) -> str:
    """A line with its first number as #, without what is around it."""
    return " ".join(NUMBER.sub("#", line.strip(), count=1).rstrip(". ").split())
