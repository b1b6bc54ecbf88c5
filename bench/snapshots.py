"""What `harness snapshot`'s program costs on a machine with very many sockets, and whether its clients notice.

Against `ss -tan` alone; and against the same machine while nobody looks at it.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bench.measure import Row
from harness.incident.snapshot import program
from harness.lab import Lab, pair
from harness.traffic import echo, listen
from harness.traffic.crowd import crowd
from harness.traffic.crowd_end import RESET_ON_CLOSE

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.lab import Host, Pair
    from harness.traffic import Listener

Result = TypeVar("Result")

MOST_SECONDS, MOST_BYTES, MOST_SIZE = 10.0, 200 << 20, 500_000
# For the sockets to be there, on a machine that is busy.
PATIENCE = 1200.0
# So much longer may a client take while somebody looks, and so many seconds nobody does.
MOST_TIMES, UNDISTURBED = 2.0, 5.0
# The program's own pause between two samples is not what it costs.
OPTIONS = ("--seconds", "0")


def snapshot_of_many(sockets: int) -> list[Row]:
    """The program's time and memory in a namespace with so many sockets, what it prints, and what clients notice."""
    with Lab() as lab, tempfile.TemporaryDirectory() as directory:
        network = pair(lab)
        # Each port of the server is a destination of its own, with some 28,000 local ports of the client.
        crowd(network.client, network.server, sockets, ports=1 + sockets // 20_000, deadline=PATIENCE)
        file, output = Path(directory, "snapshot.py"), Path(directory, "snapshot.json")
        file.write_text(program())
        service = listen(network.server, answer=echo)
        quiet = _visits(network, service, lambda: time.sleep(UNDISTURBED))[1]
        ours, visits = _visits(network, service, lambda: _run(network.server, [sys.executable, file, *OPTIONS], output))
        size = output.stat().st_size
        seen = json.loads(output.read_bytes())["namespaces"][0]["sockets"]["total"]
        other = _run(network.server, ["ss", "-tan"], output)
    return [
        Row(
            f"harness snapshot with {seen} sockets",
            f"{ours.taken:.2f} s (of a processor: {ours.busy:.2f}), {ours.memory >> 20} MiB, prints {size >> 10} KiB",
            f"ss -tan {other.taken:.2f} s (of a processor: {other.busy:.2f})",
            f"at most {MOST_SECONDS:.0f} s, {MOST_BYTES >> 20} MiB, {MOST_SIZE >> 10} KiB",
            seen >= sockets and ours.taken <= MOST_SECONDS and ours.memory <= MOST_BYTES and size <= MOST_SIZE,
        ),
        Row(
            "a client that connects and asks, meanwhile",
            f"median {visits.median * 1000:.2f} ms, 99 % within {visits.most * 1000:.2f} ms ({visits.number})",
            f"nobody looks: {quiet.median * 1000:.2f} ms, {quiet.most * 1000:.2f} ms ({quiet.number})",
            f"median at most {MOST_TIMES:g} times",
            visits.median <= MOST_TIMES * quiet.median,
        ),
    ]


@dataclass(frozen=True)
class Visits:
    """How long clients took to connect, ask and be answered, in seconds: the median, and 99 of a hundred at most."""

    number: int
    median: float
    most: float


def _visits(network: Pair, service: Listener, meanwhile: Callable[[], Result]) -> tuple[Result, Visits]:
    """Clients of a service that come one after another while something is done; what that returned, and of them."""
    taken: list[float] = []
    with ThreadPoolExecutor(1) as other:
        doing = other.submit(meanwhile)
        while not doing.done():
            started = time.perf_counter()
            with network.client.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                client.connect(service.address)
                client.send(b"?")
                client.recv(1)
            taken.append(time.perf_counter() - started)
    result = doing.result()
    return result, Visits(len(taken), statistics.median(taken), statistics.quantiles(taken, n=100)[-1])


@dataclass(frozen=True)
class Cost:
    """What a program took: seconds, seconds of a processor, and its largest resident size in bytes."""

    taken: float
    busy: float
    memory: int


def _run(host: Host, argv: list[str | Path], output: Path) -> Cost:
    """What a program costs in a host."""
    started = time.perf_counter()
    with output.open("wb") as written, host:
        running = subprocess.Popen(argv, stdout=written)
        _, status, usage = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise subprocess.CalledProcessError(running.returncode, argv)
    return Cost(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


if __name__ == "__main__":
    print(*snapshot_of_many(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000), sep="\n")
