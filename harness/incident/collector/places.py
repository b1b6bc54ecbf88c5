"""Small files of /proc and /sys, and the counters in them."""

import os
import time

from harness.incident.collector.tracked import STATISTICS, tracked_statistics

NET = "/proc/self/net/"
GROUPS = ("Ip", "Icmp", "Tcp", "Udp", "TcpExt", "IpExt")


def text(path: str, most: int = 1 << 20) -> str:
    """What stands in a file; empty where it cannot be read."""
    try:
        with open(path, errors="replace") as file:
            return file.read(most)
    except OSError:
        return ""


def names(directory: str) -> "list[str]":
    """What is in a directory, sorted; nothing where it cannot be read."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def identity_of(path: str) -> "tuple[int, int]":
    """Device and inode of a namespace; zeroes where this user may not know."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino


def tables(printed: str) -> "dict[str, dict[str, int]]":
    """The format of /proc/net/snmp and netstat: for each group a line of names and a line of values."""
    lines = printed.splitlines()
    found = {}
    for header, values in zip(lines[::2], lines[1::2]):
        group = header.partition(":")[0]
        if group in GROUPS:
            found[group] = dict(zip(header.split()[1:], map(int, values.split()[1:])))
    return found


def sockstat(printed: str) -> "dict[str, dict[str, int]]":
    """The format of /proc/net/sockstat and sockstat6: a name, then pairs of a name and a number."""
    found = {}
    for line in printed.splitlines():
        group, _, rest = line.partition(":")
        words = rest.split()
        found[group] = dict(zip(words[::2], map(int, words[1::2])))
    return found


def sample() -> "dict[str, object]":
    """The counters of this network namespace now: those that are not 0."""
    counted = _counted()
    gauges = sockstat(text(NET + "sockstat"))
    gauges.update(sockstat(text(NET + "sockstat6")))
    not_zero = {group: {name: n for name, n in table.items() if n} for group, table in counted.items()}
    return {"taken": time.time(), "counters": not_zero, "sockstat": gauges}


def counter_names() -> "dict[str, list[str]]":
    """The counters that this kernel has, by group."""
    return {group: list(table) for group, table in _counted().items()}


def _counted() -> "dict[str, dict[str, int]]":
    """All counters, with those of the connections that are tracked, where there are any."""
    counted = tables(text(NET + "snmp"))
    counted.update(tables(text(NET + "netstat")))
    tracked = tracked_statistics(text(STATISTICS))
    tracked.pop("entries", None)
    if tracked:
        counted["conntrack"] = tracked
    return counted
