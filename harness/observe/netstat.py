"""What netstat(8) prints: sockets as rows, and the sentences of `netstat -s` as numbers.

The words are those of net-tools in the C locale, which is what a lab's programs run in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import BadInput
from harness.listing import Listing

if TYPE_CHECKING:
    from harness.lab.host import Host

# net-tools, statistics.c: how `netstat -s` words a counter of the kernel.
OVERFLOWED = "times the listen queue of a socket overflowed"  # TcpExt.ListenOverflows
SYNS_TO_LISTEN = "SYNs to LISTEN sockets dropped"  # TcpExt.ListenDrops
REJECTED_BY_TIMESTAMP = "passive connections rejected because of time stamp"  # TcpExt.PAWSPassive

ROW = re.compile(
    r"(?P<protocol>tcp6?)\s+(?P<recv_q>\d+)\s+(?P<send_q>\d+)\s+(?P<local>\S+)\s+(?P<remote>\S+)"
    r"\s+(?P<state>[A-Z_0-9]+)\b(?P<details>.*)"
)


@dataclass(frozen=True, order=True, slots=True)
class Row:
    """A TCP socket as netstat prints it.

    `state` is netstat's word (SYN_RECV, ESTABLISHED, TIME_WAIT). Addresses are as printed, cut off without -W.
    `details` is whatever follows, word by word: process number and program (-p), the timer (-o).
    """

    protocol: str
    recv_q: int
    send_q: int
    local: str
    remote: str
    state: str
    details: tuple[str, ...] = ()


def rows(host: Host, *arguments: object) -> list[Row]:
    """The rows of `netstat` with these arguments on a host: `rows(host, "-tan")`. With -p it may take a minute."""
    return Listing(parse(host.run("netstat", *arguments).stdout))


def parse(printed: str) -> list[Row]:
    """The TCP rows of what netstat printed; headers, and sockets that are not TCP's, are left out."""
    matches = filter(None, map(ROW.match, printed.splitlines()))
    return [
        Row(
            match["protocol"],
            int(match["recv_q"]),
            int(match["send_q"]),
            match["local"],
            match["remote"],
            match["state"],
            tuple(match["details"].split()),
        )
        for match in matches
    ]


def statistic(host: Host, words: str) -> int:
    """The number in the line of `netstat -s` that has these words; 0 if no line has them, as of a counter that is 0."""
    return statistic_in(host.run("netstat", "-s").stdout, words)


def statistic_in(printed: str, words: str) -> int:
    """The number in the line of `netstat -s` that has these words; BadInput if several lines have them."""
    lines = [line.strip() for line in printed.splitlines() if words in line]
    if len(lines) > 1:
        raise BadInput(f"netstat -s has {len(lines)} lines with {words!r}: {'; '.join(lines)}; give more of the line")
    numbers = re.findall(r"\b\d+\b", lines[0].replace(words, "")) if lines else ["0"]
    if len(numbers) != 1:
        raise BadInput(f"netstat -s: no number, or several, in {lines[0]!r}")
    return int(numbers[0])
