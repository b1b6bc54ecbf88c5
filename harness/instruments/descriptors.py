"""Limits of file descriptors: programs that run into them, and what they say of it."""

from __future__ import annotations

import resource
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from harness.errors import NotReady
from harness.instruments.programs import command
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Host, Program

UNLIMITED = (1 << 64) - 1
NOBODY = 65534
# Above this, a descriptor table as long as fs.nr_open (8 bytes an entry) is too much to ask a machine for.
LONGEST_TABLE = 1 << 21
DEADLINE = 30.0


Line = TypeVar("Line")


class Listening(msgspec.Struct):
    """What a server says when it listens: a line, whatever stands in it."""


@dataclass(frozen=True)
class Accepted:
    """What a server says when it accepts no more: how many it has, and how many descriptors it had open `before`.

    `error` is why accept() has failed, `readable` whether poll() found the listener readable then, three times; `read`
    is what each client had sent, after the server went on.
    """

    accepted: int
    before: int
    error: str | None = None
    readable: list[bool] = field(default_factory=list)
    read: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Connected:
    """What a client says when it connects no more: how many connections, and descriptors open `before`; the error."""

    connected: int
    before: int
    error: str | None


@dataclass(frozen=True)
class Answers:
    """What setrlimit(RLIMIT_NOFILE) has answered to a user: "ok" or the name of the errno, to each limit asked for.

    `hard` is the hard limit before, `may_raise` whether this user may raise it, `limit` the one in the end. `last` is
    the last descriptor below it and what one more got, empty where the table would be too long.
    """

    hard: int
    may_raise: bool
    limit: int
    answers: dict[str, str]
    last: list[int | str]

    def to(self, limit: int) -> str:
        """The answer to one limit."""
        return self.answers[str(limit)]


@dataclass(frozen=True)
class Opened:
    """How many sockets a program has opened, and the error that ended that, if there was one."""

    opened: int
    error: str | None = None


@dataclass(frozen=True)
class Started:
    """How many threads a program under a limit has started, and how many sockets it could open beside them."""

    threads: int
    sockets: int


class AcceptingServer:
    """A server that accepts until accept() fails or it has as many connections as `wanted`, and then waits.

    It may have so many `descriptors` (ulimit -n). Ready when it listens; stopped with the lab.
    """

    def __init__(self, host: Host, port: int, *, descriptors: int, wanted: int) -> None:
        serving = command("accept_all.py", int(host.family), host.ip, port, wanted)
        self.program = host.start(_limited(descriptors, serving))
        self._lines = 1
        _line(self.program, self._lines, Listening)

    def accepts_no_more(self) -> Accepted:
        """Wait until it does not, and return what it says; once more after go_on(). NotReady after 30 seconds."""
        return _line(self.program, self._lines + 1, Accepted)

    def go_on(self, descriptors: int) -> None:
        """Let it have so many descriptors from now on, as prlimit(1) would, and accept again."""
        _, hard = resource.prlimit(self.program.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.program.pid, resource.RLIMIT_NOFILE, (descriptors, hard))
        self._lines += 1
        self.program.signal(signal.SIGUSR1)

    def stop(self) -> None:
        """End it, and with it its connections."""
        self.program.stop()


def connect_up_to(host: Host, address: str, port: int, *, descriptors: int, wanted: int) -> Connected:
    """A program with so many descriptors connects as often as it can, or is wanted; its connections stay open."""
    connecting = command("connect_all.py", int(host.family), address, port, wanted)
    return _line(host.start(_limited(descriptors, connecting)), 1, Connected)


def ask_for_descriptors(host: Host, *limits: int, user: int = 0) -> Answers:
    """A program of this user asks for each of these limits in turn, soft and hard at once; nothing is undone."""
    ran = host.run(command("ask_for_descriptors.py", user, msgspec.json.encode(limits).decode(), LONGEST_TABLE))
    return msgspec.json.decode(ran.stdout, type=Answers)


def open_sockets(host: Host, wanted: int, *, user: int = 0) -> Opened:
    """A program of this user opens so many sockets, or as many as it can."""
    return msgspec.json.decode(host.run(command("open_sockets.py", user, wanted)).stdout, type=Opened)


def start_threads(host: Host, wanted: int, *, limit: str, number: int, user: int = 0) -> Started:
    """A program of this user starts so many threads, or as many as it can, and then opens sockets.

    `limit` is "nofile" (ulimit -n) or "nproc" (ulimit -u), set to `number`.
    """
    return msgspec.json.decode(host.run(command("start_threads.py", user, wanted, limit, number)).stdout, type=Started)


def users() -> list[tuple[str, int]]:
    """Whom a program can run as, with the user's number: root of the machine also as an ordinary user."""
    every = Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
    return [("root", 0), ("an ordinary user", NOBODY)] if every else [("an ordinary user", 0)]


def _limited(descriptors: int, argv: list[str]) -> list[str]:
    """The command line with what the documents name before it: ulimit -n."""
    return ["sh", "-c", f'ulimit -S -n {descriptors} && exec "$@"', "sh", *argv]


def _line(program: Program, number: int, of: type[Line]) -> Line:
    """The n-th line that a program has said; NotReady if it does not within 30 seconds, or ends before."""

    def lines() -> list[str]:
        if not program.alive():
            raise NotReady(f"{program.argv[0]} has ended: {program.output()}")
        output = program.output()
        return [line for line in output[: output.rfind("\n") + 1].splitlines() if line.startswith("{")]

    until(lambda: len(lines()) >= number, deadline=DEADLINE, what=f"line {number} of the program")
    return msgspec.json.decode(lines()[number - 1], type=of)
