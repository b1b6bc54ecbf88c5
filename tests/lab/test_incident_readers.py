"""Readers against the programs themselves: netstat's words for every counter."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.incident.counters import LeftOut
from harness.incident.facts import Fact
from harness.incident.read import read

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
    assert {name: fact.value for name, fact in sample.numbers.items()} == {
        name: value for name, value in numbers.items() if not name.startswith(NOT_READ)
    }
    assert sample.left_out is LeftOut.ZEROS
    assert not isinstance(sample.of("Icmp.InMsgs"), Fact)
