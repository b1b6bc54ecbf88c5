"""What ss(8) lists, of every iproute2 since 3.x: by the words of its rows, with the header or without."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.errors import BadInput
from harness.evidence.types import SocketTimer
from harness.incident.reading.context import Context, Reader
from harness.incident.reading.lines import plain
from harness.incident.reading.table import Row, Table, endpoint_of
from harness.observe import ss
from harness.observe.states import ALIASES, WORDS

if TYPE_CHECKING:
    from harness.evidence.types import Endpoint

STATES = {word for word, _ in WORDS.values()}
ROW = re.compile(rf"^(?:tcp\s+)?(?:{'|'.join(sorted(STATES))})\s+\d+\s+\d+\s+\S*:\S+\s+\S*:\S+")
ONE_STATE = re.compile(r"\bstate\s+([\w-]+)")
# users:(("nginx",pid=12,fd=6)), before iproute2 4.0 users:(("nginx",12,6)).
USERS = re.compile(r'\("((?:[^"\\]|\\.){0,64})",(?:pid=)?(\d{1,10})')
DROPS = re.compile(r"skmem:\([^)]*,d(\d{1,10})\)")
QUEUE = re.compile(r"[0-9]{1,10}")
PAIR = re.compile(r"(\w{1,32}):(\d{1,15}(?:\.\d{1,9})?)(?:/(\d{1,15}(?:\.\d{1,9})?))?", re.ASCII)
OPTION = re.compile(r"[a-z][a-z0-9_]{1,15}")
NOT_OPTIONS = frozenset({"send", "pacing_rate", "delivery_rate", "max_pacing_rate"})
# Numbers that differ for each socket and tell nothing.
NOISE = frozenset({"ino", "uid", "fwmark", "sk", "cgroup"})


class SsRows(Reader):
    """`ss` with sockets. Sockets of other protocols are passed over."""

    kind = "ss"
    opening = r".*Recv-Q|\s*(?:tcp\s+)?[A-Z][A-Z0-9-]+\s+\d+\s+\d"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.table = Table(context, limits=True)
        self.header = False
        self.record: list[str] = []
        self.number = 0
        asked = ONE_STATE.search(context.command)
        self.state = _state_of(asked[1]) if asked else "UNKNOWN"

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        return _is_header(line) or ROW.match(line.strip()) is not None

    def feed(self, number: int, line: str) -> bool:
        words = line.split()
        if not words:
            return True
        if line[:1].isspace() and self.record and not ROW.match(line.strip()):
            self.record += words
            return True
        if "Recv-Q" in words:
            self.header = True
            return _is_header(line)
        if not _queues(words):
            return False
        self._close()
        self.record, self.number = words, number
        return True

    def finish(self) -> None:
        self._close()
        self.table.finish()

    def _close(self) -> None:
        """The record that is complete now."""
        words, self.record = self.record, []
        row = self._row(words) if words else None
        if row:
            self.table.add(row)

    def _row(self, words: list[str]) -> Row | None:
        place = _queues(words) - 1
        before, ends, details = words[:place], words[place + 2 : place + 4], words[place + 4 :]
        if before and before[0].islower() and before[0] != "tcp":
            return None
        state = before[-1] if before and before[-1] in STATES else self.state
        if state == "UNCONN":
            # Of UDP or a raw socket, which the ss of iproute2 3.10 calls tcp with -tu.
            return None
        local, peer = map(endpoint_of, ends)
        if local is None or peer is None:
            self.table.lost(*ends)
            return None
        return _detailed(self.number, state, (local, peer), words[place : place + 2], " ".join(details))


def _detailed(number: int, state: str, ends: tuple[Endpoint, Endpoint], queues: list[str], details: str) -> Row:
    recv_q, send_q = map(int, queues)
    if not details:
        return Row(number, state, *ends, recv_q, send_q)
    dropped = DROPS.search(details)
    words = details.split()
    pairs = [match for match in map(PAIR.fullmatch, words) if match and match[1] not in NOISE]
    info = {match[1]: float(match[2]) for match in pairs}
    info |= {f"{match[1]}_total": float(match[3]) for match in pairs if match[1] == "retrans" and match[3]}
    options = tuple(word for word in words if OPTION.fullmatch(word) and word not in NOT_OPTIONS)
    marks = dict(word.split(":", 1) for word in words if word.startswith(("ino:", "sk:")))
    holders = tuple((plain(name, 32), int(process)) for name, process in USERS.findall(details)[:64])
    return Row(
        number, state, *ends, recv_q, send_q, _timer(details), marks.get("ino", marks.get("sk", "")), holders,
        int(dropped[1]) if dropped else None, info, options,
    )  # fmt: skip


def _timer(details: str) -> SocketTimer | None:
    printed = ss.TIMER.search(details)
    if printed is None:
        return None
    try:
        return SocketTimer(plain(printed[1], 16), ss.seconds(printed[2][:20]), int(printed[3][:9]))
    except BadInput:
        return None


def _is_header(line: str) -> bool:
    return "Recv-Q" in line and "Send-Q" in line and not line.startswith("Proto") and "RefCnt" not in line


def _queues(words: list[str]) -> int:
    """Where the two queues stand, from 1: behind at most protocol and state; 0 for what is no row."""
    for place in range(min(3, len(words) - 3)):
        if QUEUE.fullmatch(words[place]) and QUEUE.fullmatch(words[place + 1]):
            return place + 1
    return 0


def _state_of(word: str) -> str:
    name = ALIASES.get(word.lower(), word.lower())
    return next((printed for printed, known in WORDS.values() if known == name), "UNKNOWN")


SUMMARY = re.compile(r"^TCP:\s+(\d{1,10}) \((estab .*)\)")
OF_SOCKSTAT = {"sockstat.TCP.tw": "ss.timewait", "sockstat.TCP.orphan": "ss.orphaned"}
PART = re.compile(r"(\w{1,32}) (\d{1,10})", re.ASCII)


class SsSummary(Reader):
    """`ss -s`: how many sockets are in which state."""

    kind = "ss -s"
    opening = r"TCP: |Total: \d"

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        return SUMMARY.match(line) is not None or (line.startswith("Total: ") and line[7:8].isdecimal())

    def feed(self, number: int, line: str) -> bool:
        if match := SUMMARY.match(line):
            numbers = {f"ss.{name}": int(value) for name, value in PART.findall(match[2])} | {"ss.total": int(match[1])}
            # It has them of /proc/net/sockstat.
            numbers |= {name: numbers[of] for name, of in OF_SOCKSTAT.items() if of in numbers}
            self.context.gauges(number, numbers, "ss")
            return True
        return not line.strip() or line.startswith(("Total: ", "Transport", "*", "RAW", "UDP", "TCP", "INET", "FRAG"))
