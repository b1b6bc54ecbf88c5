"""What `harness snapshot`'s program costs on a machine with very many sockets, against `ss -tan` alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import Row
from harness.incident.snapshot import program
from harness.lab import Lab, pair
from harness.traffic.crowd import crowd

if TYPE_CHECKING:
    from harness.lab import Host

MOST_SECONDS, MOST_BYTES, MOST_SIZE = 10.0, 200 << 20, 500_000
# For the sockets to be there, on a machine that is busy.
PATIENCE = 1200.0
# The program's own pause between two samples is not what it costs.
OPTIONS = ("--seconds", "0")


def snapshot_of_many(sockets: int) -> Row:
    """The program's time and memory in a namespace with so many sockets, and what it prints."""
    with Lab() as lab, tempfile.TemporaryDirectory() as directory:
        network = pair(lab)
        # Each port of the server is a destination of its own, with some 28,000 local ports of the client.
        crowd(network.client, network.server, sockets, ports=1 + sockets // 20_000, deadline=PATIENCE)
        file, output = Path(directory, "snapshot.py"), Path(directory, "snapshot.json")
        file.write_text(program())
        ours = _run(network.server, [sys.executable, str(file), *OPTIONS], output)
        size = output.stat().st_size
        seen = json.loads(output.read_bytes())["namespaces"][0]["sockets"]["total"]
        other = _run(network.server, ["ss", "-tan"], output)
    return Row(
        f"harness snapshot with {seen} sockets",
        f"{ours.taken:.2f} s (of a processor: {ours.busy:.2f}), {ours.memory >> 20} MiB, prints {size >> 10} KiB",
        f"ss -tan {other.taken:.2f} s (of a processor: {other.busy:.2f})",
        f"at most {MOST_SECONDS:.0f} s, {MOST_BYTES >> 20} MiB, {MOST_SIZE >> 10} KiB",
        seen >= sockets and ours.taken <= MOST_SECONDS and ours.memory <= MOST_BYTES and size <= MOST_SIZE,
    )


@dataclass(frozen=True)
class Cost:
    """What a program took: seconds, seconds of a processor, and its largest resident size in bytes."""

    taken: float
    busy: float
    memory: int


def _run(host: Host, argv: list[str], output: Path) -> Cost:
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
    print(snapshot_of_many(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000))
