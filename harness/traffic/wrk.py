"""The real load generator wrk, and what it reports."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import ProgramFailed

if TYPE_CHECKING:
    from harness.lab import Host, Program

_REQUESTS = re.compile(r"(\d+) requests in ([\d.]+)(ms|s|m)")
_ERRORS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}


@dataclass(frozen=True)
class Load:
    """wrk's report: requests answered in how many seconds, and its socket errors by kind."""

    requests: int
    seconds: float
    connect_errors: int
    read_errors: int
    write_errors: int
    timeouts: int

    @property
    def per_second(self) -> float:
        """Requests answered a second."""
        return self.requests / self.seconds

    @classmethod
    def parse(cls, output: str) -> Load:
        """Read wrk's output; ProgramFailed if it is not that."""
        found = _REQUESTS.search(output)
        if found is None:
            raise ProgramFailed(f"wrk reported no requests:\n{output}")
        errors = _ERRORS.search(output)
        kinds = [int(number) for number in errors.groups()] if errors else [0, 0, 0, 0]
        return cls(int(found[1]), float(found[2]) * _SECONDS[found[3]], *kinds)


def start_wrk(host: Host, url: str, *, connections: int, seconds: int, headers: tuple[str, ...] = ()) -> Program:
    """Start wrk in the background; Load.parse() reads its output when it has ended."""
    options = [word for header in headers for word in ("-H", header)]
    return host.start("wrk", "-t", "1", "-c", connections, "-d", f"{seconds}s", *options, url)


def wrk(host: Host, url: str, *, connections: int, seconds: int, headers: tuple[str, ...] = ()) -> Load:
    """Run wrk against a URL: so many connections for so many whole seconds."""
    program = start_wrk(host, url, connections=connections, seconds=seconds, headers=headers)
    return Load.parse(program.wait(seconds + 30).stdout)
