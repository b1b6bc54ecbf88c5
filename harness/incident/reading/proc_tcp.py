"""/proc/net/tcp and tcp6."""

from __future__ import annotations

import re
import socket

from harness.evidence.types import Endpoint, SocketTimer
from harness.incident.collector import proc_tcp
from harness.incident.reading.context import Context, Reader
from harness.incident.reading.table import Row, Table

HEADER = re.compile(r"^\s+sl\s+local_address\s+(?:rem_address|remote_address)\s+st tx_queue")
ROW = re.compile(r"^\s*\d+: [0-9A-F]{8}(?:[0-9A-F]{24})?:[0-9A-F]{4} [0-9A-F]+:[0-9A-F]{4} [0-9A-F]{2} ")


class ProcTcp(Reader):
    """The sockets of a namespace. Udp's files look alike but for the states, which then mean nothing."""

    kind = "/proc/net/tcp"
    opening = r"\s+sl  |\s*\d+: [0-9A-F]{8}"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.table = Table(context, limits=False, timers=True)
        self.halves: set[int] = set()
        self.other = re.search(r"/(udp|raw|udplite|icmp)6?$", f"/{context.path}") is not None

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        return HEADER.match(line) is not None or ROW.match(line) is not None

    def feed(self, number: int, line: str) -> bool:
        if ROW.match(line) is None:
            self.other = self.other or line.rstrip().endswith("drops")
            return HEADER.match(line) is not None
        found = None if self.other else proc_tcp.parse(line, 0)
        if found:
            self.halves.add(4 if len(line.split(None, 2)[1]) == len("00000000:0000") else 6)
            timer = SocketTimer(found.timer, found.expires / 1000, found.retransmits) if found.timer else None
            local, peer = (Endpoint(_printed(address), port) for address, port in (found.local, found.peer))
            mark = str(found.inode)[:20] if found.inode else ""
            self.table.add(Row(number, found.state, local, peer, *found.queues, timer, mark))
        return True

    def finish(self) -> None:
        self.table.half = self.halves.pop() if len(self.halves) == 1 else 0
        self.table.finish()


def _printed(packed: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
