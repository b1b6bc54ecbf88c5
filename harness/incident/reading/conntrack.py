"""The table of connections that a firewall tracks: /proc/net/nf_conntrack and `conntrack -L`."""

from __future__ import annotations

import re

from harness.evidence.types import Endpoint
from harness.incident.collector.tracked import ENTRIES, TRACKED_LINE, UNANSWERED, Tracked
from harness.incident.conntrack import Tracked as TrackedFlow
from harness.incident.conntrack import TrackedTable
from harness.incident.reading.context import Context, Reader
from harness.incident.reading.table import address_of

ROW = re.compile(r"^(?:ipv[46]\s+\d+\s+)?[a-z]+\s+\d+ .*\bsrc=\S+ dst=\S+ .*\bsrc=\S+ dst=\S+")
SHOWN = re.compile(r"^conntrack v\S+ \(conntrack-tools\): \d+ flow entries")
MOST = 5000


class Conntrack(Reader):
    """A firewall's table, summed up."""

    kind = "nf_conntrack"
    opening = r"(?:ipv[46]\s+\d+\s+)?[a-z]+\s+\d+ "

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.table = Tracked()
        self.first = 0

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        return ROW.match(line) is not None

    def feed(self, number: int, line: str) -> bool:
        if not self.table.add(line, number):
            return SHOWN.match(line) is not None
        self.first = self.first or number
        return True

    def finish(self) -> None:
        flows = self.table.largest(MOST)
        shown = tuple(self._flow(*flow) for flow in flows)
        left_out = self.table.total - sum(flow.entries for flow in shown)
        source = self.context.source(self.first)
        self.context.space.conntrack.append(
            TrackedTable(source, self.table.total, self.table.states, shown, left_out, self.context.taken)
        )

    def _flow(self, key: tuple[str, ...], numbers: list[int], sources: int, ports: int) -> TrackedFlow:
        protocol, state, destination, port, seen_as, answers, answers_port = key
        return TrackedFlow(
            protocol,
            state,
            Endpoint(address_of(destination), _port(port)),
            numbers[ENTRIES],
            self.context.source(numbers[TRACKED_LINE]),
            sources,
            Endpoint(address_of(answers), _port(answers_port)) if answers else None,
            address_of(seen_as) if seen_as else "",
            ports,
            numbers[UNANSWERED],
        )


def _port(printed: str) -> int:
    return int(printed) if re.fullmatch(r"[0-9]{1,5}", printed) else 0
