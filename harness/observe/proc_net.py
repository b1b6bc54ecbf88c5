"""The files in which the kernel shows the counters of a network namespace: snmp, netstat and snmp6."""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.lab.host import Host

# /proc/thread-self, not /proc/self or /proc/net: those show the namespace of the process's first
# thread, and `with host:` switches the calling thread alone (fs/proc/proc_net.c).
TABLES = ("snmp", "netstat")
LONG_TABLE = "snmp6"
DIRECTORY = "/proc/thread-self/net"

READ_SIZE = 1 << 16
SNMP6_GROUP = re.compile(r"(Ip6|Icmp6|UdpLite6|Udp6)(?=[A-Z])")


class Snapshot(Mapping[str, Mapping[str, int]]):
    """All counters at one moment, by group and name, in the kernel's order.

    They are taken apart when they are asked for: whoever polls looks at one counter of four hundred. `lines` are the
    names and the values of each group as the kernel wrote them.
    """

    def __init__(self, files: Iterable[tuple[str, bytes]]) -> None:
        self.lines: dict[str, tuple[bytes, bytes]] = {}
        self._long: bytes | None = None
        self._parsed: dict[str, Mapping[str, int]] = {}
        for name, text in files:
            if name == LONG_TABLE:
                self._long = text
            else:
                self.lines.update(table_lines(text))

    def __getitem__(self, group: str) -> Mapping[str, int]:
        if group not in self._parsed:
            if group in self.lines:
                self._parsed[group] = parse_line(*self.lines[group])
            else:
                self._parse_long()
        return self._parsed[group]

    def _parse_long(self) -> None:
        if self._long is not None:
            self._parsed |= parse_snmp6(self._long)
            self._long = None

    def __iter__(self) -> Iterator[str]:
        self._parse_long()
        yield from self.lines
        yield from (group for group in self._parsed if group not in self.lines)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def same(self, group: str, other: object) -> bool:
        """Whether another snapshot has surely the same of this group: the same text."""
        return isinstance(other, Snapshot) and group in self.lines and self.lines[group] == other.lines.get(group)


def read(host: Host) -> Snapshot:
    """All counters of a host now."""
    files = _files_of(host)
    if not files.open:
        raise HarnessError(f"{host.name} counts no more: its lab is closed")
    return Snapshot(files.read())


def table_lines(text: bytes) -> Iterator[tuple[str, tuple[bytes, bytes]]]:
    """The format of netstat and snmp: for each group a line of names and a line of values."""
    lines = text.splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        yield _header(names)[0], (names, values)


def parse_line(names: bytes, values: bytes) -> dict[str, int]:
    """The counters of one group."""
    return dict(zip(_header(names)[1], map(int, values.partition(b":")[2].split()), strict=True))


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
