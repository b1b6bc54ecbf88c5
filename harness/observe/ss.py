"""What ss(8) prints, as rows: what an operator sees, to hold against what the kernel says (harness.observe.sockets).

The columns differ with the options: without -t a row begins with the protocol, with the filter of a single state it
has no state, with -H there is no header. The values tell which columns are there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import BadInput
from harness.listing import Listing
from harness.observe.sockets import Timer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.lab.host import Host
    from harness.observe.sockets import Socket

TIMER = re.compile(r"timer:\((\w+),([^,)]*),(\d+)\)")
# misc/ss.c, tcp_stats_print(): `rto:204 rtt:0.028/0.014 cwnd:10`.
NUMBER = re.compile(r"(\w+):(\d+(?:\.\d+)?)(?:/[\d.]+)?")
# misc/ss.c, print_ms_timer(): "2min5sec", "59sec", "1.203ms" for 1.203 s, "203ms" for 0.203 s, nothing for 0.
TIME = re.compile(r"(?:(?P<minutes>\d+)min)?(?:(?P<seconds>\d+)(?:sec|\.(?=\d+ms)))?(?:(?P<milliseconds>\d+)ms)?")


@dataclass(frozen=True, order=True, slots=True)
class Row:
    """A socket as ss prints it.

    `state` is empty where ss leaves the column out. `local` and `remote` are as printed: "10.1.0.1:80", "[::]:*".
    `details` is whatever follows, word by word: the timer (-o), the process (-p), the numbers of -i.
    """

    state: str
    recv_q: int
    send_q: int
    local: str
    remote: str
    details: tuple[str, ...] = ()

    @property
    def queues(self) -> tuple[int, int]:
        """(Recv-Q, Send-Q): of a listener, how many connections wait to be accepted, and its limit."""
        return self.recv_q, self.send_q

    @property
    def local_port(self) -> str:
        """The port of the near end as printed: a number, the name of a service without -n, or "*"."""
        return self.local.rpartition(":")[2]

    @property
    def remote_port(self) -> str:
        """The port of the far end, as printed."""
        return self.remote.rpartition(":")[2]

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers that -i shows, by name: "rto" in milliseconds, "cwnd" …; of a pair (`rtt:0.1/0.05`) the first."""
        matches = filter(None, map(NUMBER.fullmatch, self.details))
        return {match[1]: float(match[2]) for match in matches}

    @property
    def timer(self) -> Timer | None:
        """The timer that -o shows, its time in seconds as ss rounds it: whole ones from ten seconds on."""
        printed = TIMER.search(" ".join(self.details))
        return None if printed is None else Timer(printed[1], seconds(printed[2]), int(printed[3]))


def rows(host: Host, *arguments: object) -> list[Row]:
    """The rows of `ss` on a host, in its order: `rows(host, "-tan", "state", "syn-recv")`."""
    return Listing(parse(host.run("ss", *arguments).stdout))


def row(host: Host, *arguments: object) -> Row:
    """The only row of `ss` with these arguments; BadInput if there are none or several."""
    printed = rows(host, *arguments)
    if len(printed) != 1:
        command = " ".join(("ss", *map(str, arguments)))
        raise BadInput(
            f"{command} on {host.name}: {len(printed)} rows, not one; give it a filter that one socket meets"
        )
    return printed[0]


def listener(host: Host, port: int) -> Row:
    """The row of `ss -lnt` for the listener on a port."""
    return row(host, "-lnt", f"sport = :{port}")


def parse(printed: str) -> list[Row]:
    """The rows of what ss printed, with its header or without, in its order."""
    return [_row(words) for words in _records(printed)]


def expected(socket: Socket) -> Row:
    """The row that `ss -tan` should print of a socket that inet_diag has shown."""
    return Row(socket.state, socket.recv_q, socket.send_q, _endpoint(socket.local), _endpoint(socket.remote))


def _records(printed: str) -> Iterator[list[str]]:
    """The words of each socket; what stands indented below it (-i without -O) belongs to it."""
    record: list[str] = []
    for line in printed.splitlines():
        words = line.split()
        if line[:1].isspace() and record:
            record += words
            continue
        if record:
            yield record
        record = [] if not words or "Recv-Q" in words else words
    if record:
        yield record


def _row(words: list[str]) -> Row:
    """One row: the two queues are the first words that are numbers."""
    queues = next((n for n, word in enumerate(words) if word.isdecimal()), len(words))
    if queues > 2 or len(words) < queues + 4 or not words[queues + 1].isdecimal():
        raise BadInput(f"not a row of ss with sockets: {' '.join(words)!r}; does the command list sockets?")
    recv_q, send_q, local, remote = words[queues : queues + 4]
    state = words[queues - 1] if queues and not words[queues - 1].islower() else ""
    return Row(state, int(recv_q), int(send_q), local, remote, tuple(words[queues + 4 :]))


def _endpoint(endpoint: tuple[str, int]) -> str:
    address, port = endpoint
    return f"{f'[{address}]' if ':' in address else address}:{port or '*'}"


def seconds(printed: str) -> float:
    """The seconds that ss printed as minutes, seconds and milliseconds; BadInput for what is no time of ss."""
    parts = TIME.fullmatch(printed)
    if parts is None:
        raise BadInput(f"not a time of ss: {printed!r}")
    minutes, seconds, milliseconds = (int(part or 0) for part in parts.group("minutes", "seconds", "milliseconds"))
    return 60 * minutes + seconds + milliseconds / 1000
