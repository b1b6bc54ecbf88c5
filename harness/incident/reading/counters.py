"""Counters by their names: nstat, files of /proc/net, softnet_stat, the statistics of conntrack."""

from __future__ import annotations

import json
import re
from typing import ClassVar

from harness.errors import BadInput
from harness.incident.counters import LeftOut, Sample
from harness.incident.facts import Fact
from harness.incident.machine import FileRead
from harness.incident.reading.context import Context, Reader

GROUPS = (
    "UdpLite6", "MPTcpExt", "IcmpMsg", "UdpLite", "TcpExt", "IpExt", "Icmp6", "Udp6", "Sctp", "Icmp", "Ip6", "Tcp",
    "Udp", "Ip",
)  # fmt: skip


def grouped(name: str) -> str:
    """A name as nstat has it, with a point behind its group: "TcpExt.ListenDrops"."""
    group = next((group for group in GROUPS if name.startswith(group) and len(name) > len(group)), "")
    return f"{group}.{name[len(group) :]}" if group else name


NAME = re.compile(r"[\w.-]{1,100}", re.ASCII)


def is_counter(name: str, value: int) -> bool:
    """Whether it can be a counter of the kernel: 64 bits, and a name without anything odd."""
    return NAME.fullmatch(name) is not None and -(1 << 63) <= value < 1 << 63


class CounterReader(Reader):
    """Collects numbers of several groups and hands them over as one sample."""

    left_out: LeftOut = LeftOut.NOTHING
    group: ClassVar[str] = ""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.first = 0
        self.numbers: dict[str, Fact[int]] = {}

    def note(self, number: int, name: str, value: int) -> None:
        """One number; of several with a name (a line for each processor), the sum."""
        if not is_counter(name, value):
            return
        self.first = self.first or number
        before = self.numbers.get(name)
        self.numbers[name] = Fact(value + (before.value if before else 0), self.context.source(number))

    def sample(self) -> Sample:
        """What was read."""
        groups = dict.fromkeys(name.partition(".")[0] for name in self.numbers)
        source = self.context.source(self.first)
        return Sample(source, self.numbers, tuple(groups), self.left_out, self.context.taken)

    def finish(self) -> None:
        if self.numbers:
            self.context.space.counters.append(self.sample())


NSTAT = re.compile(r"^([A-Z]\w+)\s+(\d+)\s+(\d+\.\d+)$")


class Nstat(CounterReader):
    """`nstat -az` as text. Without -a it prints increments since its last use: such are not read."""

    kind = "nstat"
    opening = r"#kernel$|#192\.|[A-Z]\w+\s+\d+\s+\d+\.\d+$"

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        return line.startswith("#192.") or line == "#kernel" or _is_counter(line)

    def feed(self, number: int, line: str) -> bool:
        match = NSTAT.match(line)
        if match is None:
            return line.startswith("#") and self.first == 0
        self.note(number, grouped(match[1]), int(match[2]))
        return True

    def finish(self) -> None:
        if increments(self.context.command):
            self.context.draft.notice(
                f"{self.context.file}: nstat without -a prints increments: not read; take nstat -az"
            )
            return
        zeros = any(fact.value == 0 for fact in self.numbers.values())
        self.left_out = LeftOut.NOTHING if zeros else LeftOut.ZEROS
        super().finish()


def _is_counter(line: str) -> bool:
    match = NSTAT.match(line)
    return match is not None and "." in grouped(match[1])


def increments(command: str) -> bool:
    """Whether a command line is nstat's without -a."""
    words = command.split()
    options = [word for word in words[1:] if word.startswith("-")]
    absolute = any(word == "--ignore" or (word[1:2] != "-" and "a" in word) for word in options)
    return words[:1] == ["nstat"] and not absolute


def nstat_json(content: bytes, context: Context) -> None:
    """`nstat -az --json`; BadInput if it is something else."""
    try:
        table = json.loads(content)["kernel"]
        numbers = {grouped(str(name)): Fact(int(value), context.source(1)) for name, value in table.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        raise BadInput(f"{context.file}: JSON that neither nstat nor harness snapshot has printed") from None
    numbers = {name: fact for name, fact in numbers.items() if is_counter(name, fact.value)}
    zeros = any(fact.value == 0 for fact in numbers.values())
    groups = tuple(dict.fromkeys(name.partition(".")[0] for name in numbers))
    left_out = LeftOut.NOTHING if zeros else LeftOut.ZEROS
    if increments(context.command):
        raise BadInput(f"{context.file}: nstat without -a prints increments: not read; take nstat -az")
    context.space.counters.append(Sample(context.source(1), numbers, groups, left_out, context.taken))
    context.draft.files.append(FileRead(context.source(1), "nstat --json", 1, context.namespace, context.taken))


TABLE = re.compile(r"^(Ip|Icmp|IcmpMsg|Tcp|Udp|UdpLite|TcpExt|IpExt|MPTcpExt): ([A-Za-z]\w+ .*|[A-Za-z]\w+)$")


class ProcTables(CounterReader):
    """/proc/net/snmp and /proc/net/netstat: for each group a line of names and a line of values."""

    kind = "/proc/net/snmp, netstat"
    opening = r"[A-Z]\w+: [A-Za-z]"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.names: list[str] = []
        self.of = ""

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        return TABLE.match(line) is not None

    def feed(self, number: int, line: str) -> bool:
        if match := TABLE.match(line):
            if any(name.startswith(f"{match[1]}.") for name in self.numbers):
                return False
            self.of, self.names = match[1], match[2].split()
            return True
        group, _, values = line.partition(": ")
        if not self.names or group != self.of:
            return False
        # A file that was cut off has fewer values than names.
        for name, value in zip(self.names, values.split(), strict=False):
            if value.lstrip("-").isdecimal():
                self.note(number, f"{group}.{name}", int(value))
        self.names = []
        return True


INTERFACE = re.compile(r"^ifIndex\s+\d+$")
SNMP6 = re.compile(r"^((?:Ip6|Icmp6|Udp6|UdpLite6)[A-Z]\w+)\s+(\d+)$")


class Snmp6(CounterReader):
    """/proc/net/snmp6. The files of dev_snmp6 begin with the number of their interface, and are passed over."""

    kind = "/proc/net/snmp6"
    opening = r"(?:Ip6|Icmp6|Udp6|UdpLite6)[A-Z]|ifIndex"
    of_interface = False

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        return SNMP6.match(line) is not None or INTERFACE.match(line) is not None

    def feed(self, number: int, line: str) -> bool:
        if INTERFACE.match(line):
            self.of_interface = True
        elif match := SNMP6.match(line):
            self.note(number, grouped(match[1]), int(match[2]))
        else:
            return False
        return True

    def finish(self) -> None:
        if not self.of_interface:
            super().finish()


SOCKSTAT = re.compile(r"^(sockets|TCP6?|UDP6?|UDPLITE6?|RAW6?|FRAG6?|MPTCP6?): ([a-z]+ \d+(?: [a-z]+ \d+)*) ?$")


class Sockstat(CounterReader):
    """/proc/net/sockstat and sockstat6: `inuse` and `tw` are the namespace's; the rest is the machine's."""

    kind = "/proc/net/sockstat"
    opening = r"(?:sockets|[A-Z]+6?): [a-z]"

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        return SOCKSTAT.match(line) is not None

    def feed(self, number: int, line: str) -> bool:
        match = SOCKSTAT.match(line)
        if match is None or any(name.startswith(f"sockstat.{match[1]}.") for name in self.numbers):
            return False
        words = match[2].split()
        for name, value in zip(words[::2], words[1::2], strict=True):
            self.note(number, f"sockstat.{match[1]}.{name}", int(value))
        return True

    def finish(self) -> None:
        if self.numbers:
            self.context.space.gauges.append(self.sample())


SOFTNET = re.compile(r"^[0-9a-f]{8}(?: [0-9a-f]{8}){7,}\s*$")
COLUMNS = ("processed", "dropped", "time_squeeze")


class Softnet(CounterReader):
    """/proc/net/softnet_stat: a line for each processor, in hexadecimal."""

    kind = "/proc/net/softnet_stat"
    opening = r"[0-9a-f]{8} [0-9a-f]{8}"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.processor = 0

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        return SOFTNET.match(line) is not None

    def feed(self, number: int, line: str) -> bool:
        if SOFTNET.match(line) is None:
            return False
        values = [int(word, 16) for word in line.split()]
        # Processors that are off have no line; newer kernels say in a thirteenth column whose it is (net-procfs.c).
        processor = values[12] if len(values) > 12 else self.processor
        for name, value in zip(COLUMNS, values, strict=False):
            self.note(number, f"softnet.{name}", value)
            self.note(number, f"softnet.{name}.cpu{processor}", value)
        self.processor += 1
        return True

    def finish(self) -> None:
        if self.numbers:
            self.context.draft.softnet.append(self.sample())


STATISTICS = re.compile(r"^entries\s+(?:searched|clashres)\s+found\s+")
CONNTRACK_S = re.compile(r"^cpu=\d+\s+(?:[a-z_]+=\d+\s*)+$")


class ConntrackStatistics(CounterReader):
    """/proc/net/stat/nf_conntrack, in hexadecimal, and `conntrack -S`: the sums of all processors."""

    kind = "statistics of conntrack"
    opening = r"entries |cpu=\d"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.names: list[str] = []

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        return STATISTICS.match(line) is not None or CONNTRACK_S.match(line) is not None

    def feed(self, number: int, line: str) -> bool:
        if STATISTICS.match(line):
            self.names = line.split()
        elif CONNTRACK_S.match(line):
            pairs = [pair.split("=") for pair in line.split()[1:]]
            for name, value in pairs:
                self.note(number, f"conntrack.{name}", int(value))
        elif self.names and re.fullmatch(r"[0-9a-f ]+", line) and line.strip():
            self._hexadecimal(number, [int(word, 16) for word in line.split()])
        else:
            return False
        return True

    def _hexadecimal(self, number: int, values: list[int]) -> None:
        for name, value in zip(self.names, values, strict=False):
            # How many entries there are stands in each line.
            if name != "entries":
                self.note(number, f"conntrack.{name}", value)
            elif "conntrack.entries" not in self.numbers:
                self.context.gauges(number, {"conntrack.entries": value}, "conntrack")
