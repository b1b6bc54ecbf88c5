"""Readers against the programs themselves: netstat's words for every counter, and a capture of a full queue."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.incident.counters import LeftOut
from harness.incident.facts import Fact
from harness.incident.read import read
from harness.observe import capture, counting, write_pcapng
from harness.traffic import connect, listen
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Pair

# What netstat says of ICMP stands in other words in two lists; these it never prints.
NOT_READ = ("Icmp.", "Ip.DefaultTTL", "Tcp.MaxConn", "Tcp.RtoAlgorithm", "Tcp.RtoMax", "Tcp.RtoMin")
SHOW = "mount -t tmpfs none /proc && mkdir /proc/net && cp {0}/snmp {0}/netstat /proc/net && exec netstat -s"


def numbered(place: Path) -> dict[str, int]:
    """Files like the kernel's, in which each counter has a number of its own; what that is."""
    numbers: dict[str, int] = {}
    for file in ("snmp", "netstat"):
        lines = []
        for line in Path("/proc/net", file).read_text().splitlines()[::2]:
            group, *names = line.split()
            values = [len(numbers) + 1000 + place for place in range(len(names))]
            numbers |= {f"{group}{name}".replace(":", "."): value for name, value in zip(names, values, strict=True)}
            lines += [line, f"{group} {' '.join(map(str, values))}"]
        (place / file).write_text("\n".join(lines) + "\n")
    return numbers


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give netstat another /proc")
@pytest.mark.skipif(not shutil.which("netstat"), reason="net-tools is not installed")
def test_every_sentence_of_netstat_is_the_counter_that_it_says(pair: Pair, tmp_path: Path) -> None:
    numbers = numbered(tmp_path)
    ran = pair.server.run("unshare", "--mount", "sh", "-c", SHOW.format(tmp_path))
    (tmp_path / "printed").write_text(ran.stdout)
    (sample,) = read([tmp_path / "printed"]).own.counters
    told = {name: fact.value for name, fact in sample.numbers.items()}
    assert told == {name: numbers[name] for name in told}
    assert [name for name in numbers if name not in told and not name.startswith(NOT_READ)] == []
    assert sample.left_out is LeftOut.ZEROS
    assert not isinstance(sample.of("Icmp.InMsgs"), Fact)


def test_a_capture_tells_who_was_answered(pair: Pair, tmp_path: Path) -> None:
    pair.server.sysctl["net.core.somaxconn"] = 2
    listener = listen(pair.server, backlog=100)
    with capture(pair.server) as captured, counting(pair.server) as moved:
        connect(pair.client, listener, 5)
        connect(pair.client, (pair.server.ip, 9), 1, wait=True)
        until(lambda: moved.TcpExt.ListenOverflows >= 2)
    file = tmp_path / "capture.pcapng"
    write_pcapng(file, [captured])
    (seen,) = read([file]).captures
    full, closed = seen.attempts
    assert (full.service.port, full.tried, full.answered, full.completed, full.clients) == (listener.port, 5, 3, 3, 1)
    assert full.unanswered == 2
    assert full.reset == full.broken == 0
    assert (closed.service.port, closed.tried, closed.reset, closed.answered) == (9, 1, 1, 0)
