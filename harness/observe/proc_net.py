"""The files in which the kernel shows the counters of a network namespace: snmp, netstat and snmp6."""

from __future__ import annotations

import os
import re
import weakref
from functools import lru_cache
from typing import TYPE_CHECKING

from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.lab.host import Host

# /proc/thread-self, not /proc/self or /proc/net: those show the namespace of the process's first
# thread, and `with host:` switches the calling thread alone (fs/proc/proc_net.c).
TABLES = ("snmp", "netstat")
LONG_TABLE = "snmp6"
DIRECTORY = "/proc/thread-self/net"

READ_SIZE = 1 << 16
SNMP6_GROUP = re.compile(r"(Ip6|Icmp6|UdpLite6|Udp6)(?=[A-Z])")


def read(host: Host) -> dict[str, Mapping[str, int]]:
    """All counters of a host now, by group and name, in the kernel's order."""
    files = _files_of(host)
    if not files.open:
        raise HarnessError(f"{host.name} counts no more: its lab is closed")
    groups: dict[str, Mapping[str, int]] = {}
    for name, text in files.read():
        groups.update(parse_snmp6(text) if name == LONG_TABLE else parse_table(text))
    return groups


def parse_table(text: bytes) -> dict[str, dict[str, int]]:
    """Parse the format of netstat and snmp: a line of names and a line of values for each group."""
    lines = text.splitlines()
    groups = {}
    for header, line in zip(lines[::2], lines[1::2], strict=True):
        group, names = _header(header)
        _prefix, values = line.split(b":", 1)
        groups[group] = dict(zip(names, map(int, values.split()), strict=True))
    return groups


def parse_snmp6(text: bytes) -> dict[str, dict[str, int]]:
    """Parse the format of snmp6: a name and a value on each line, the group being the name's beginning."""
    words = text.split()
    values = list(map(int, words[1::2]))
    return {
        group: dict(zip(names, values[start:], strict=False))
        for group, start, names in _snmp6_layout(tuple(words[::2]))
    }


@lru_cache(maxsize=64)
def _header(line: bytes) -> tuple[str, list[str]]:
    group, names = line.decode("ascii").split(":", 1)
    return group, names.split()


@lru_cache(maxsize=8)
def _snmp6_layout(words: tuple[bytes, ...]) -> list[tuple[str, int, list[str]]]:
    """Where in the column of values each group begins, and the names of its counters."""
    layout: list[tuple[str, int, list[str]]] = []
    for position, word in enumerate(words):
        name = word.decode("ascii")
        found = SNMP6_GROUP.match(name)
        group, counter = (found[1], name[found.end() :]) if found else ("", name)
        if not layout or layout[-1][0] != group:
            layout.append((group, position, []))
        layout[-1][2].append(counter)
    return layout


class Files:
    """The counter files of one host, kept open: opened inside, they show its namespace from anywhere.

    An open file holds the namespace, so they are closed with the lab.
    """

    def __init__(self, host: Host) -> None:
        self.open: list[tuple[str, int]] = []
        host.namespace.call(self._open)

    def _open(self) -> None:
        for name in (*TABLES, LONG_TABLE):
            try:
                descriptor = os.open(f"{DIRECTORY}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                if name != LONG_TABLE:
                    raise
            else:
                self.open.append((name, descriptor))

    def read(self) -> Iterator[tuple[str, bytes]]:
        for name, descriptor in self.open:
            yield name, os.pread(descriptor, READ_SIZE, 0)

    def close(self) -> None:
        while self.open:
            os.close(self.open.pop()[1])


_open_files: weakref.WeakKeyDictionary[Host, Files] = weakref.WeakKeyDictionary()


def _files_of(host: Host) -> Files:
    files = _open_files.get(host)
    if files is None:
        files = _open_files[host] = Files(host)
        weakref.finalize(host, files.close)
        host.lab.on_close(files.close)
    return files
