"""What `harness snapshot`'s program costs on a machine with very many sockets, against `ss -tan` alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import Row
from harness.incident.snapshot import program
from harness.lab import Lab, pair
from harness.traffic.crowd import crowd

if TYPE_CHECKING:
    from harness.lab import Host

MOST_SECONDS, MOST_BYTES, MOST_SIZE = 10.0, 200 << 20, 500_000
# The program's own pause between two samples is not what it costs.
OPTIONS = ("--seconds", "0")


def snapshot_of_many(sockets: int) -> Row:
    """The program's time and memory in a namespace with so many sockets, and what it prints."""
    with Lab() as lab, tempfile.TemporaryDirectory() as directory:
        network = pair(lab)
        crowd(network.client, network.server, sockets)
        file, output = Path(directory, "snapshot.py"), Path(directory, "snapshot.json")
        file.write_text(program())
        taken, memory = _run(network.server, [sys.executable, str(file), *OPTIONS], output)
        size = output.stat().st_size
        seen = json.loads(output.read_bytes())["namespaces"][0]["sockets"]["total"]
        other, _ = _run(network.server, ["ss", "-tan"], output)
    return Row(
        f"harness snapshot with {seen} sockets",
        f"{taken:.2f} s, {memory >> 20} MiB, prints {size >> 10} KiB",
        f"ss -tan {other:.2f} s",
        f"at most {MOST_SECONDS:.0f} s, {MOST_BYTES >> 20} MiB, {MOST_SIZE >> 10} KiB",
        seen >= sockets and taken <= MOST_SECONDS and memory <= MOST_BYTES and size <= MOST_SIZE,
    )


def _run(host: Host, argv: list[str], output: Path) -> tuple[float, int]:
    """Seconds, and the largest resident size in bytes, of a program in a host."""
    started = time.perf_counter()
    with output.open("wb") as written, host:
        running = subprocess.Popen(argv, stdout=written)
        _, status, usage = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise subprocess.CalledProcessError(running.returncode, argv)
    return time.perf_counter() - started, usage.ru_maxrss * 1024


if __name__ == "__main__":
    print(snapshot_of_many(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000))
