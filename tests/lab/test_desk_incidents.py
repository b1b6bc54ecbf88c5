"""From an incident to its remedy, by the machine's files alone: diagnosed, written as a scenario, remedies tried.

Of each incident: the scenario that is written passes; turned round, so that the cause is not there, its symptom fails
and its control still passes; of the remedies the right one is safe, and advice that does not help is marked.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.desk.catalogue import case_of
from harness.desk.table import RemedyTable, Worth
from harness.desk.trying import try_remedies
from harness.incident.read import read
from harness.instruments.accept_queue import fill
from harness.observe import counters
from harness.traffic import connect, drop, echo, flood, listen
from harness.traffic.ports import give_ports
from harness.traffic.short_connections import ShortConnections, keep_asking
from harness.waiting import until
from tests.lab.operator_files import Files, diagnosed
from tests.lab.operator_files import said as said_of
from tests.lab.test_diagnose_incidents import turned_away

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.lab import Pair

ROOT = Path(__file__).parents[2]
SAFE, USELESS, HARMFUL, GONE = Worth.SAFE, Worth.USELESS, Worth.HARMFUL, Worth.NO_SUCH_KNOB


def serves_no_more(pair: Pair) -> Path:
    """A program that does not accept any more."""
    listener = listen(pair.server, 10)
    fill(pair.client, listener)
    return Files(pair.server).snapshot(turned_away(pair.client, listener))


def serves_no_more_for_a_moment(pair: Pair) -> Path:
    """A program that is busy, and seen so once: by the commands that an operator types."""
    pair.server.sysctl["net.core.somaxconn"] = 10
    listener = listen(pair.server, 200)
    fill(pair.client, listener)
    turned_away(pair.client, listener)()
    taken = Files(pair.server).directory / "typed"
    taken.write_text(
        "".join(f"$ {line}\n{pair.server.run(*line.split()).stdout}" for line in ("uname -a", "ss -lntm", "sysctl -a"))
    )
    return taken


def is_flooded(pair: Pair) -> Path:
    """A listener without SYN cookies in a flood."""
    pair.server.sysctl["net.ipv4.tcp_syncookies"] = 0
    listener = listen(pair.server, 32, answer=echo)
    with flood(pair.server, pair.client, listener, rate=300, seconds=30, distinct=5000):
        until(lambda: counters(pair.server).TcpExt.TCPSynRetrans >= 60, what="SYN-ACKs that were sent again")
        return Files(pair.server).snapshot()


def has_no_port(pair: Pair) -> Path:
    """A client that has used up its ports."""
    give_ports(pair.client, 20)
    asking = ShortConnections(pair.client, [listen(pair.server)], 20)
    keep_asking([asking], 20, stop_at_failure=True)
    return Files(pair.client).snapshot()


def gets_no_answer(pair: Pair) -> Path:
    """A client whose SYNs are lost."""
    listener = listen(pair.server)
    drop(pair.server, "S", dport=listener.port)
    connect(pair.client, listener, 3)
    until(lambda: counters(pair.client).TcpExt.TCPSynRetrans >= 6, what="SYNs that were sent again twice")
    return Files(pair.client).snapshot()


def has_a_silent_peer(pair: Pair) -> Path:
    """A client whose server falls silent."""
    listener = listen(pair.server, answer=echo)
    clients = connect(pair.client, listener, 2, wait=True)
    drop(pair.server, dport=listener.port)
    for client in clients:
        client.socket.send(b"anybody there?")
    until(lambda: counters(pair.client).Tcp.RetransSegs >= 10, what="data that was sent again, several times")
    return Files(pair.client).snapshot()


def has_a_worker_that_hangs(pair: Pair) -> Path:
    """Four workers, of which one does not accept."""
    hanging = listen(pair.server, 5, shared=True)
    for _ in range(3):
        listen(pair.server, 5, port=hanging.port, shared=True, answer=echo)
    while hanging.waiting < 6:
        connect(pair.client, hanging, wait=True)
    return Files(pair.server).snapshot(lambda: connect(pair.client, hanging, 12))


class Incident(NamedTuple):
    """How it is provoked, what may be found (by how busy the machine is), what in the scenario is its cause (a pattern,
    and what removes it), and what each remedy is worth; those that are void are in `void`.
    """

    provoke: Callable[[Pair], Path]
    finding: str
    cause: tuple[str, str]
    worth: dict[str, Worth]
    void: set[str]


OF_A_QUEUE = {
    "tcp_max_syn_backlog alone, with a restart": USELESS,
    "tcp_tw_recycle": GONE,
    "somaxconn without a restart": USELESS,
}
OF_A_FLOOD = {
    "a longer queue": USELESS,
    "tcp_max_syn_backlog alone": USELESS,
    "fewer SYN-ACK retransmissions": USELESS,
}
OF_SILENCE = {"keepalive": USELESS, "a lower tcp_fin_timeout": USELESS}
INCIDENTS = [
    Incident(
        serves_no_more, "accept-queue-full", (r"BACKLOG, SOMAXCONN = \d+, \d+", "BACKLOG, SOMAXCONN = 900, 900"),
        {"a program that accepts sooner": SAFE, "a longer queue": USELESS, **OF_A_QUEUE}, set(OF_A_QUEUE),
    ),
    Incident(
        serves_no_more_for_a_moment, "accept-queue-full",
        (r"BACKLOG, SOMAXCONN = \d+, \d+", "BACKLOG, SOMAXCONN = 900, 900"),
        {"a longer queue": SAFE, "tcp_abort_on_overflow": HARMFUL, **OF_A_QUEUE}, set(OF_A_QUEUE),
    ),
    Incident(
        is_flooded, "syn-flood syn-queue-full", ("tcp_syncookies=0", "tcp_syncookies=1"),
        {"SYN cookies": SAFE, **OF_A_FLOOD}, set(OF_A_FLOOD),
    ),
    Incident(
        has_no_port, "ports-used-up", ("PORTS = 30", "PORTS = 60"),
        {"connections are kept and used again": SAFE, "tcp_tw_reuse": SAFE, "a wider range of ports": SAFE,
         "a lower tcp_fin_timeout": USELESS, "a lower tcp_max_tw_buckets": HARMFUL, "tcp_tw_recycle": GONE},
        {"a lower tcp_fin_timeout", "a lower tcp_max_tw_buckets", "tcp_tw_recycle"},
    ),
    Incident(
        gets_no_answer, "connect-unanswered", (r'tcp_syn_retries": \d+', 'tcp_syn_retries": 1'),
        {"a timeout of the application": SAFE, "fewer SYNs": SAFE, "a lower tcp_retries2": USELESS, **OF_SILENCE},
        {"a lower tcp_retries2", *OF_SILENCE},
    ),
    Incident(
        has_a_silent_peer, "silent-peer", (r'tcp_retries2": \d+', 'tcp_retries2": 2'),
        {"TCP_USER_TIMEOUT": SAFE, "a lower tcp_retries2": SAFE, **OF_SILENCE}, set(OF_SILENCE),
    ),
    Incident(
        has_a_worker_that_hangs, "worker-hangs", ("HANGS = True", "HANGS = False"),
        {"the worker is restarted": SAFE, "one queue for all workers": SAFE, "tcp_max_syn_backlog alone": USELESS,
         "a longer queue": HARMFUL},
        {"a longer queue", "tcp_max_syn_backlog alone", "tcp_abort_on_overflow"},
    ),
]  # fmt: skip


@pytest.mark.ipv4_only("the files, and what is made of them, are of the same kind for both")
@pytest.mark.slow(60)
@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: incident.provoke.__name__)
def test_from_the_files_to_the_remedy(pair: Pair, incident: Incident, tmp_path: Path) -> None:
    taken = incident.provoke(pair)
    file = tmp_path / "test_incident.py"
    finding = found(taken, incident)
    said = CliRunner().invoke(cli, ["reproduce", str(taken), "-o", str(file), "--finding", finding])
    assert said.exit_code == 0, said.output
    assert passed(file) == {"symptom": True, "control": True}
    turned, times = re.subn(*incident.cause, file.read_text())
    assert times == 1
    file.write_text(turned)
    assert passed(file) == {"symptom": False, "control": True}
    judge(try_remedies(case_of(read([taken]), finding)), incident)


def found(taken: Path, incident: Incident) -> str:
    """What is found of an incident: the first of its names; others on this machine may add to what the files show."""
    names = [name for name, _ in said_of(diagnosed(taken)) if name in incident.finding.split()]
    assert names, incident.finding
    return names[0]


def judge(table: RemedyTable, incident: Incident) -> None:
    """Whether the table says what is known."""
    assert table.before > table.control == 0
    found = {row.remedy: row.worth for row in table.rows}
    assert found | incident.worth == found
    assert incident.void <= {row.remedy for row in table.rows if row.void}
    assert table.together is None or table.together.worth is SAFE


def passed(file: Path) -> dict[str, bool]:
    """Which of a scenario's tests pass over IPv4, by what their docstrings say they are: the symptom, the control."""
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rA",
        "-k",
        "ipv4",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        file.parent,
        file,
    ]
    ran = subprocess.run([str(word) for word in words], cwd=ROOT, capture_output=True, text=True, check=False)
    outcomes: dict[str, bool] = {}
    for name, role in re.findall(r'^def (test_\w+)\(.*\n    """The (symptom|control)', file.read_text(), re.MULTILINE):
        seen = re.findall(rf"^(PASSED|FAILED|ERROR) .*::{name}\[", ran.stdout, re.MULTILINE)
        assert seen, ran.stdout
        outcomes[role] = outcomes.get(role, True) and set(seen) == {"PASSED"}
    return outcomes
