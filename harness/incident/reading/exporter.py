"""node_exporter's text: the metrics that matter to TCP, by the names that the kernel has for them.

prometheus_client has a parser of the whole format; it knows no line numbers, and gives up at the first bad line.
"""

from __future__ import annotations

import re

from harness.incident.counters import LeftOut, Sample
from harness.incident.facts import Basis, Fact, Moment
from harness.incident.reading.context import Context, Reader
from harness.incident.reading.counters import grouped, is_counter
from harness.incident.reading.lines import plain

METRIC = re.compile(r"^(node_\w+)(?:\{([^}]*)\})? (\S+)(?: \d+)?$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
COMMENT = re.compile(r"^# (?:HELP|TYPE) \w+ |^# EOF$")
SYSCTLS = {
    "node_nf_conntrack_entries": "net.netfilter.nf_conntrack_count",
    "node_nf_conntrack_entries_limit": "net.netfilter.nf_conntrack_max",
    "node_filefd_maximum": "fs.file-max",
}
CONNTRACK = "node_nf_conntrack_stat_"
SOFTNET = {
    "node_softnet_processed_total": "processed",
    "node_softnet_dropped_total": "dropped",
    "node_softnet_times_squeezed_total": "time_squeeze",
}


class Exporter(Reader):
    """What a scrape of node_exporter has. By default it leaves out TCPTimeWaitOverflow, TCPReqQFull* and others."""

    kind = "node_exporter"
    opening = r"node_"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.counters: dict[str, Fact[int]] = {}
        self.gauges: dict[str, Fact[int]] = {}
        self.softnet: dict[str, Fact[int]] = {}
        self.first = 0
        self.times: dict[str, float] = {}

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        return METRIC.match(line) is not None

    def feed(self, number: int, line: str) -> bool:
        match = METRIC.match(line)
        if match is None:
            return COMMENT.match(line) is not None or re.match(r"^[a-z]\w+(?:\{[^}]*\})? \S+$", line) is not None
        self.first = self.first or number
        try:
            value = float(match[3])
            if not abs(value) < 1 << 62 or not is_counter(match[1], 0):
                return True
            self._metric(number, match[1], dict(LABEL.findall(match[2] or "")), value)
        except (ValueError, OverflowError):
            return True
        return True

    def _metric(self, number: int, name: str, labels: dict[str, str], value: float) -> None:
        source = self.context.source(number)
        if name.startswith("node_netstat_"):
            group, _, counter = name.removeprefix("node_netstat_").partition("_")
            table = self.gauges if counter == "CurrEstab" else self.counters
            table[f"{group}.{counter}" if counter else grouped(group)] = Fact(int(value), source)
        elif name.startswith("node_sockstat_"):
            self.gauges[f"sockstat.{name.removeprefix('node_sockstat_').replace('_', '.', 1)}"] = Fact(
                int(value), source
            )
        elif name.startswith(CONNTRACK):
            self.counters[f"conntrack.{name.removeprefix(CONNTRACK)}"] = Fact(int(value), source)
        elif name in SOFTNET:
            self._softnet(SOFTNET[name], labels.get("cpu", ""), Fact(int(value), source))
        elif name in SYSCTLS:
            self.context.draft.sysctl(
                self.context.space, SYSCTLS[name], Fact(f"{value:.0f}", source), self.context.taken
            )
        else:
            self._machine(number, name, labels, value)

    def _softnet(self, column: str, processor: str, value: Fact[int]) -> None:
        self.softnet[f"softnet.{column}.cpu{plain(processor, 8)}"] = value
        before = self.softnet.get(f"softnet.{column}")
        self.softnet[f"softnet.{column}"] = Fact(value.value + (before.value if before else 0), value.source)

    def _machine(self, number: int, name: str, labels: dict[str, str], value: float) -> None:
        if name in ("node_boot_time_seconds", "node_time_seconds", "node_boot_time", "node_time"):
            self.times["boot" if "boot" in name else "now"] = value
        elif name == "node_uname_info":
            self.context.say("kernel", self.context.fact(plain(labels.get("release", "")), number))
            self.context.say("build", self.context.fact(plain(labels.get("version", "")), number))
        elif name.startswith("node_memory_") and name.endswith("_bytes"):
            field = name.removeprefix("node_memory_").removesuffix("_bytes")
            self.context.draft.memory_of(field, Fact(int(value), self.context.source(number)), self.context.taken)

    def finish(self) -> None:
        source = self.context.source(self.first)
        taken = Moment(self.times["now"], Basis.SAID) if "now" in self.times else self.context.taken
        if len(self.times) == 2:
            self.context.draft.say("uptime", Fact(self.times["now"] - self.times["boot"], source), taken)
        space, draft = self.context.space, self.context.draft
        for numbers, samples in (
            (self.counters, space.counters),
            (self.gauges, space.gauges),
            (self.softnet, draft.softnet),
        ):
            if numbers:
                groups = tuple(dict.fromkeys(name.partition(".")[0] for name in numbers))
                samples.append(Sample(source, numbers, groups, LeftOut.SOME, taken))
