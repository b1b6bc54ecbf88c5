"""The real load generator wrk, and what it reports."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import ProgramFailed

if TYPE_CHECKING:
    from harness.lab import Host

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


class Wrk:
    """wrk running against a URL with so many connections, until it is stopped or its seconds are over."""

    def __init__(
        self, host: Host, url: str, *, connections: int, seconds: int = 60, headers: tuple[str, ...] = ()
    ) -> None:
        options = [word for header in headers for word in ("-H", header)]
        self._seconds = seconds
        self._program = host.start("wrk", "-t", "1", "-c", connections, "-d", f"{seconds}s", *options, url)

    def wait(self) -> Load:
        """Let it run to its end."""
        return Load.parse(self._program.wait(self._seconds + 30).stdout)

    def stop(self) -> Load:
        """End it as Ctrl-C does; it reports what it did."""
        return Load.parse(self._program.interrupt().stdout)
