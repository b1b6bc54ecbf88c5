"""The program of `harness snapshot`, run where it is meant to run: against what the kernel says by other ways."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from harness.evidence.json_schema import schema_text
from harness.incident.collector import diag, proc_tcp
from harness.incident.counters import Rate
from harness.incident.facts import Fact, Unknown
from harness.incident.read import read
from harness.incident.snapshot import program
from harness.incident.snapshot_file import SnapshotFile
from harness.incident.sockets import Direction
from harness.observe import accept_queue, counters, counting, tally
from harness.traffic import connect, listen
from harness.waiting import until
from tests.nobody import is_root

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.incident.machine import Machine
    from harness.lab import BehindNat, Host, Pair

OLDEST = (3, 6)
SOFTNET = Path("/proc/net/softnet_stat")
SCHEMA = json.loads(schema_text(SnapshotFile))


def interpreters() -> list[str]:
    """This Python, and the oldest from 3.6 on and the newest that PATH or pyenv has."""
    places = [*os.get_exec_path(), *map(str, Path.home().glob(".pyenv/versions/*/bin"))]
    found = {sys.version_info[1]: sys.executable}
    for place in places:
        # PATH may have folders of somebody else's, as where root became nobody.
        for file in (
            Path(place).glob("python3.*") if os.access(place, os.R_OK | os.X_OK) and "shims" not in place else ()
        ):
            name = re.fullmatch(r"python3\.(\d+)", file.name)
            if name and int(name[1]) >= OLDEST[1]:
                found.setdefault(int(name[1]), str(file))
    return [found[minor] for minor in sorted({min(found), sys.version_info[1], max(found)})]


INTERPRETERS = interpreters()
EACH = pytest.mark.parametrize("python", INTERPRETERS, ids=lambda path: Path(path).name)


def take(host: Host, *options: str, python: str = sys.executable, prefix: tuple[str, ...] = ()) -> dict[str, Any]:
    """What the program prints in a host; it is given to the interpreter by standard input, as over ssh."""
    ran = host.run(*prefix, python, "-", "--seconds", "0.5", *options, stdin=program())
    assert ran.stderr == ""
    found: dict[str, Any] = json.loads(ran.stdout)
    jsonschema.validate(found, SCHEMA)
    return found


def picture(found: dict[str, Any], place: Path) -> Machine:
    file = place / "snapshot.json"
    file.write_text(json.dumps(found))
    return read([file])


def processed() -> int:
    """How many packets the processors have taken up to now: the first column of softnet_stat."""
    return sum(int(line.split()[0], 16) for line in SOFTNET.read_text().splitlines())


@EACH
def test_a_full_queue_by_every_python(pair: Pair, tmp_path: Path, python: str) -> None:
    before = processed()
    pair.server.sysctl["net.core.somaxconn"] = 5
    listener = listen(pair.server, backlog=100)
    with counting(pair.server) as moved:
        connect(pair.client, listener, 9)
        until(lambda: moved.TcpExt.ListenOverflows >= 1)
    machine = picture(take(pair.server, python=python), tmp_path)
    (seen,) = machine.own.listeners
    assert seen.last.waiting == accept_queue(pair.server, listener.port).waiting == 6
    assert (seen.last.limit, seen.was_full, seen.local.port) == (5, True, listener.port)
    assert seen.last.drops is not None
    assert seen.last.drops >= 3
    table = machine.own.sockets_now()
    assert not isinstance(table, Unknown)
    assert [(flow.direction, flow.local.port, flow.sockets) for flow in table.flows] == [
        (Direction.IN, listener.port, 6)
    ]
    overflows = machine.own.counter("TcpExt.ListenOverflows")
    assert isinstance(overflows, Fact)
    assert overflows.value <= counters(pair.server).TcpExt.ListenOverflows
    assert isinstance(machine.own.rate("TcpExt.ListenOverflows"), Rate)
    first, second = (sample.numbers["softnet.processed"].value for sample in machine.softnet)
    # Both are of a time after the handshakes; nothing need be sent between them.
    assert before < first <= second <= processed()
    assert machine.sysctl("net.core.somaxconn").value == "5"  # type: ignore[union-attr]
    assert machine.kernel.value == os.uname().release  # type: ignore[union-attr]


def test_both_ways_to_the_sockets_agree(pair: Pair) -> None:
    """inet_diag against /proc/net/tcp, and against the harness's own reader."""
    listener = listen(pair.server, backlog=100)
    connect(pair.client, listener, 5)
    for host in (pair.server, pair.client):
        by_diag = host.namespace.call(lambda: list(diag.dump(diag.ALL)))
        by_file = host.namespace.call(lambda: list(proc_tcp.from_files(diag.ALL, "/proc/thread-self/net/")))
        both = [{(each.state, each.local, each.peer, each.retransmits) for each in way} for way in (by_diag, by_file)]
        assert both[0] == both[1]
        assert Counter(each.state for each in by_diag) == tally(host)


def test_as_nobody(pair: Pair, tmp_path: Path) -> None:
    """An ordinary user sees the namespace that he is in: its queues, counters and sysctls."""
    if not is_root() or not shutil.which("setpriv"):
        pytest.skip("needs root, and setpriv, to become nobody")
    listener = listen(pair.server, backlog=5)
    connect(pair.client, listener, 3)
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    python = shutil.which("python3", path="/usr/bin") or sys.executable
    machine = picture(take(pair.server, python=python, prefix=nobody), tmp_path)
    (seen,) = machine.own.listeners
    assert (seen.local.port, seen.last.waiting, seen.last.limit) == (listener.port, 3, 5)
    assert [space.name for space in machine.namespaces] == [""]
    assert isinstance(machine.own.rate("Tcp.InSegs"), Rate)
    assert len(machine.own.sysctls) > 100


def test_who_listens_and_other_namespaces(pair: Pair, tmp_path: Path) -> None:
    """Root finds the namespaces of processes; there is one in the client's."""
    if os.geteuid():
        pytest.skip("needs root to go into other namespaces")
    code = (
        "import socket, time; s = socket.create_server(('', 8080), backlog=7); print('up', flush=True); time.sleep(600)"
    )
    running = pair.client.start("/usr/bin/python3", "-c", code, ready=lambda: tally(pair.client).get("LISTEN"))
    machine = picture(take(pair.server), tmp_path)
    # Other labs of this machine are seen, too.
    (seen,) = (each for space in machine.namespaces for each in space.listeners if running.pid in each.processes)
    assert (seen.local.port, seen.last.limit, seen.processes) == (8080, 7, (running.pid,))
    (process,) = (each for each in machine.processes if each.number == running.pid)
    assert process.program == seen.programs[0] == Path(f"/proc/{running.pid}/comm").read_text().strip()
    assert process.files_open == len(list(Path(f"/proc/{running.pid}/fd").iterdir()))
    assert process.files_soft is not None
    (clients,) = (space for space in machine.namespaces if seen in space.listeners)
    assert clients.name.startswith("netns-")
    assert isinstance(clients.rate("Tcp.InSegs"), Rate)
    assert code not in (tmp_path / "snapshot.json").read_text()


def test_one_peer_stays_one_behind_a_nat(behind_nat: Callable[[int], BehindNat], tmp_path: Path) -> None:
    """Server and gateway, told the same key, have the same pseudonym for the gateway; the clients' names stay apart."""
    network = behind_nat(2)
    listener = listen(network.server, backlog=20, port=8080)
    for client in network.clients:
        connect(client, listener, 3)
    table = tmp_path / "table"
    at_server = take(network.server, "--key", "ours", "--table", str(table))
    at_gateway = take(network.gateway, "--key", "ours")
    sockets = picture(at_server, tmp_path).own.sockets_now()
    assert not isinstance(sockets, Unknown)
    (flow,) = sockets.flows
    assert (flow.sockets, flow.peers) == (6, 1)
    meaning = dict(line.split("\t") for line in table.read_text().splitlines())
    assert meaning[flow.peer.address] in json.dumps([str(each) for each in network.gateway.interfaces.values()])
    assert oct(table.stat().st_mode)[-3:] == "600"
    if network.server.family == 2 and os.geteuid() == 0:
        (tracked,) = (each for each in picture(at_gateway, tmp_path).own.conntrack[0].flows if each.protocol == "tcp")
        assert (tracked.entries, tracked.sources, tracked.ports) == (6, 2, 6)
        assert tracked.seen_as == flow.peer.address
    for real in meaning.values():
        assert f'"{real}"' not in json.dumps(at_server)


def test_a_table_is_not_written_over(pair: Pair, tmp_path: Path) -> None:
    there = tmp_path / "table"
    there.write_text("mine")
    ran = pair.server.run(sys.executable, "-", "--seconds", "0", "--table", str(there), stdin=program(), check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == f"snapshot: --table {there}: cannot be written: File exists\n"
    assert there.read_text() == "mine"


@pytest.mark.parametrize("seconds", ["-1", "nan", "1e9", "soon"])
def test_a_bad_interval_is_a_usage_error(pair: Pair, seconds: str) -> None:
    ran = pair.server.run(sys.executable, "-", "--seconds", seconds, stdin=program(), check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "--seconds" in ran.stderr
