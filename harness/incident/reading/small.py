"""Small outputs about the machine: uname, uptime, os-release, memory, processors, limits, configuration, offloads."""

from __future__ import annotations

import re

import msgspec

from harness.incident.collector.kernel import OPTIONS
from harness.incident.collector.listeners import LIMIT
from harness.incident.facts import Fact
from harness.incident.machine import MAIN, Interface, Process
from harness.incident.reading.context import Context, Reader
from harness.incident.reading.lines import plain

UNAME = re.compile(r"^Linux \S+ (\d+\.\d+\S*) (#\d.*?) (?:x86_64|aarch64|i686|ppc64le|s390x|riscv64|armv7l|arm64)\b")
VERSION = re.compile(r"^Linux version (\S+) .*?(#\d+.*)$")
UPTIME = re.compile(r"^\s*\d\d:\d\d:\d\d(?: [AP]M)? up +(?:(\d{1,6}) days?, +)?(?:(\d{1,2}):(\d\d)|(\d{1,2}) min)\b")
PROC_UPTIME = re.compile(r"^(\d{1,12}\.\d\d) \d+\.\d\d$")
PRETTY = re.compile(r'^PRETTY_NAME="?([^"]*)"?$')
PROCESSORS = re.compile(r"^CPU\(s\):\s+(\d{1,6})$")
NUMA = re.compile(r"^NUMA node\(s\):\s+(\d{1,6})$")


class OneLine(Reader):
    """A line that tells a fact of the machine."""

    kind = "facts of the machine"
    opening = r"Linux |\s*\d\d:\d\d:\d\d|\d+\.\d\d \d|PRETTY_NAME=|CPU\(s\):|NUMA node"

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        patterns = (UNAME, VERSION, UPTIME, PROC_UPTIME, PRETTY, PROCESSORS, NUMA)
        return any(pattern.match(line) for pattern in patterns)

    def feed(self, number: int, line: str) -> bool:
        if match := UNAME.match(line) or VERSION.match(line):
            self._say("kernel", number, plain(match[1]))
            self._say("build", number, plain(match[2]))
        elif match := UPTIME.match(line):
            days, hours, minutes, alone = (int(part or 0) for part in match.groups())
            self._say("uptime", number, float(days * 86400 + hours * 3600 + (minutes + alone) * 60))
        elif match := PROC_UPTIME.match(line):
            self._say("uptime", number, float(match[1]))
        elif match := PRETTY.match(line):
            self._say("distribution", number, plain(match[1]))
        elif match := PROCESSORS.match(line):
            self._say("processors", number, int(match[1]))
        elif match := NUMA.match(line):
            self._say("numa_nodes", number, int(match[1]))
        else:
            return False
        return True

    def _say(self, fact: str, number: int, value: str | float) -> None:
        self.context.say(fact, Fact(value, self.context.source(number)))


MEMORY = re.compile(r"^([\w()]{1,40}):\s+(\d{1,15})(?: (kB))?$")


class Memory(Reader):
    """/proc/meminfo."""

    kind = "/proc/meminfo"
    opening = r"MemTotal: "

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        return line.startswith("MemTotal: ") and MEMORY.match(line) is not None

    def feed(self, number: int, line: str) -> bool:
        if match := MEMORY.match(line):
            size = int(match[2]) * (1024 if match[3] else 1)
            self.context.draft.memory_of(match[1], Fact(size, self.context.source(number)), self.context.taken)
        return match is not None


OPTION = re.compile(r"^(?:CONFIG_\w+=|# CONFIG_\w+ is not set)")


class Configuration(Reader):
    """The kernel's configuration: the options that matter here."""

    kind = "configuration of the kernel"
    opening = r"CONFIG_|# CONFIG_"

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        return OPTION.match(line) is not None

    def feed(self, number: int, line: str) -> bool:
        if match := OPTIONS.match(line):
            value = self.context.fact(plain(match[2]), number)
            self.context.draft.kernel_option(match[1], value, self.context.taken)
        return OPTION.match(line) is not None or line.startswith("#") or not line.strip()


PROCESS = re.compile(r"(?:^|/)proc/(\d{1,10})/limits$")


class Limits(Reader):
    """/proc/PID/limits, by its path or by the command that printed it."""

    kind = "/proc/PID/limits"
    opening = r"Limit  "

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        return line.startswith("Limit  ") and "Soft Limit" in line

    def feed(self, number: int, line: str) -> bool:
        # Numbers of processes are others in a container.
        typed = self.context.command if self.context.namespace == MAIN else ""
        limit, place = LIMIT.match(line), PROCESS.search(self.context.path or typed)
        if limit and place:
            soft, hard = (int(word[:18]) if word.isdecimal() else None for word in limit.groups())
            process = int(place[1])
            limits = Process(process, "", self.context.source(number), soft, hard)
            self.context.draft.process(limits, self.context.taken)
        return line.startswith(("Limit", "Max "))


FEATURES = re.compile(r"^(?:Features|Offload parameters) for ([\w.:@-]{1,32}):$")
FEATURE = re.compile(r"^([a-z][\w-]+): (on|off)\b")


class Offloads(Reader):
    """`ethtool -k`."""

    kind = "ethtool -k"
    opening = r"Features for |Offload parameters for "

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.seen: Interface | None = None

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        return FEATURES.match(line) is not None

    def feed(self, number: int, line: str) -> bool:
        if match := FEATURES.match(line):
            self.finish()
            self.seen = Interface(match[1], self.context.source(number))
        elif self.seen and (match := FEATURE.match(line)):
            offloads = self.seen.offloads | {match[1]: match[2] == "on"}
            self.seen = msgspec.structs.replace(self.seen, offloads=offloads)
        return match is not None or line.startswith(("\t", "Cannot get"))

    def finish(self) -> None:
        if self.seen:
            self.context.space.interface(self.seen, self.context.taken)
