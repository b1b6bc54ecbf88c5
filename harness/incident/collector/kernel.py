"""The machine itself: kernel, distribution, configuration, memory, processors, softnet, what the log tells of TCP."""

import gzip
import os
import re
import time

from harness.incident.collector.offloads import numa_nodes
from harness.incident.collector.places import identity_of, text

OPTIONS = re.compile(
    r"^(CONFIG_(?:TCP_\w+|DEFAULT_TCP_CONG|INET_DIAG\w*|INET_TCP_DIAG|SYN_COOKIES|NF_CONNTRACK\w*|NF_NAT|NET_RX_BUSY_POLL"
    r"|HZ(?:_\d+)?|PREEMPT\w*|NUMA|SMP|IPV6|NETFILTER|BPF_SYSCALL|MPTCP|RPS|XPS|CGROUP_BPF|MEMCG))=(\S+)$",
    re.MULTILINE,
)
MEMORY = (
    "MemTotal", "MemFree", "MemAvailable", "Slab", "SUnreclaim", "SwapTotal", "SwapFree", "VmallocUsed", "PageTables",
    "CommitLimit", "Committed_AS",
)  # fmt: skip
RELEASE = re.compile(r'^(NAME|ID|VERSION_ID|PRETTY_NAME)="?([^"\n]{0,100})"?$', re.MULTILINE)


def machine(earlier: "dict[str, object]") -> "dict[str, object]":
    """What is the same in each network namespace; `earlier` is what softnet_now() said some seconds ago."""
    uname = os.uname()
    uptime = text("/proc/uptime").split()
    return {
        "kernel": uname.release,
        "build": uname.version,
        "architecture": uname.machine,
        "distribution": dict(RELEASE.findall(text("/etc/os-release"))),
        "options": options(uname.release),
        "uptime": float(uptime[0]) if uptime else None,
        "processors": os.cpu_count(),
        "numa_nodes": numa_nodes(),
        "page": os.sysconf("SC_PAGE_SIZE"),
        "memory": memory(text("/proc/meminfo")),
        "softnet": [earlier, softnet_now()],
        "root": os.geteuid() == 0,
    }


def options(release: str) -> "dict[str, str]":
    """The kernel's options that matter here; none where it does not show its configuration."""
    try:
        with gzip.open("/proc/config.gz", "rt") as file:
            return dict(OPTIONS.findall(file.read(1 << 22)))
    except OSError:
        return dict(OPTIONS.findall(text("/boot/config-" + release, 1 << 22)))


def memory(printed: str) -> "dict[str, int]":
    """/proc/meminfo in bytes."""
    found = {}
    for line in printed.splitlines():
        name, _, value = line.partition(":")
        if name in MEMORY:
            found[name] = int(value.split()[0]) * 1024
    return found


SOFTNET = ("processed", "dropped", "time_squeeze")


def softnet_now() -> "dict[str, object]":
    """What the processors have done with packets up to now."""
    return {"taken": time.time(), "processors": softnet(text("/proc/net/softnet_stat"))}


def softnet(printed: str) -> "list[list[int]]":
    """For each processor: packets processed, dropped (its backlog was full), and how often its time was over."""
    return [[int(word, 16) for word in line.split()[: len(SOFTNET)]] for line in printed.splitlines()]


FULL, ELSEWHERE = "conntrack table full", "conntrack table full elsewhere"
TOLD = {
    "SYN flooding": re.compile("SYN flooding on port"),
    FULL: re.compile("nf_conntrack: table full, drop|ip_conntrack: table full"),
    ELSEWHERE: re.compile("nf_conntrack: table full in netns ([0-9]+)"),
    "out of TCP memory": re.compile("TCP: out of memory"),
    "too many orphaned sockets": re.compile("too many (of )?orphaned sockets"),
    "TIME-WAIT table full": re.compile("time wait bucket table overflow"),
    "neighbour table full": re.compile("[Nn]eighbou?r table overflow|neighbour: .* table overflow"),
    "out of memory": re.compile("Out of memory|oom-kill|page allocation failure"),
}
MOST_RECORDS = 100000


def log() -> "list[list[object]]":
    """What the kernel's log tells of TCP: which of TOLD, how often, and the uptime when it last did.

    The lines themselves can have addresses in them.
    """
    found = {}  # type: dict[str, list[object]]
    try:
        descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return []
    try:
        for _ in range(MOST_RECORDS):
            record = _record(descriptor)
            if not record:
                break
            _note_record(record, found)
    finally:
        os.close(descriptor)
    return list(found.values())


def _record(descriptor: int) -> str:
    """The next record; one that was overwritten before it was read counts as empty, and so does the end."""
    try:
        return os.read(descriptor, 8192).decode(errors="replace")
    except OSError:
        return ""


def _note_record(record: str, found: "dict[str, list[object]]") -> None:
    head, _, message = record.partition(";")
    told = told_by(message, identity_of("/proc/self/ns/net")[1])
    if told:
        seen = found.setdefault(told, [told, 0, 0.0])
        times = seen[1]
        seen[1] = times + 1 if isinstance(times, int) else 1
        seen[2] = int(head.split(",")[2]) / 1000000


def told_by(message: str, own: int) -> str:
    """Which of TOLD a line is about, if any; `own` is the number of the network namespace that we are in."""
    for told, pattern in TOLD.items():
        match = pattern.search(message)
        if match and told == ELSEWHERE and match.group(1) == str(own):
            return FULL
        if match:
            return told
    return ""
