"""From an incident to its remedy, by the machine's files alone: diagnosed, written as a scenario, remedies tried.

Of each incident: the scenario that is written passes; turned round, so that the cause is not there, its symptom fails
and its control still passes; of the remedies the right one is safe, and advice that does not help is marked.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.desk import out_of_ports
from harness.desk.catalogue import case_of
from harness.desk.table import RemedyTable, Worth
from harness.desk.trying import try_remedies
from harness.incident.read import read
from harness.instruments.accept_queue import begin_handshakes, fill
from harness.instruments.between import chains, knock, watch
from harness.instruments.connection_table import ConnectionTable
from harness.instruments.far_clients import far_clients
from harness.instruments.older_clock import meet_time_wait
from harness.instruments.proxy import Proxy
from harness.lab import behind_nat, lan, pair
from harness.observe import counters
from harness.traffic import connect, drop, echo, flood, listen
from harness.traffic.nginx import Nginx
from harness.traffic.ports import give_ports
from harness.traffic.short_connections import ShortConnections, keep_asking
from harness.waiting import let_pass, until
from tests.lab.late_requests import ask_late_together
from tests.lab.operator_files import BETWEEN, Files, diagnosed
from tests.lab.operator_files import said as said_of
from tests.lab.test_diagnose_incidents import turned_away

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.lab import Lab

ROOT = Path(__file__).parents[2]
# Seconds; longer than a diagnosis takes for idle (harness/diagnosis/thresholds.toml, forgotten-idle).
IDLE = 35
SAFE, USELESS, HARMFUL, GONE = Worth.SAFE, Worth.USELESS, Worth.HARMFUL, Worth.NO_SUCH_KNOB


def serves_no_more(lab: Lab) -> Path:
    """A program that does not accept any more."""
    net = pair(lab)
    listener = listen(net.server, 10)
    fill(net.client, listener)
    return Files(net.server).snapshot(turned_away(net.client, listener))


def serves_no_more_for_a_moment(lab: Lab) -> Path:
    """A program that is busy, and seen so once: by the commands that an operator types."""
    net = pair(lab)
    net.server.sysctl["net.core.somaxconn"] = 10
    listener = listen(net.server, 200)
    fill(net.client, listener)
    turned_away(net.client, listener)()
    taken = Files(net.server).directory / "typed"
    taken.write_text(
        "".join(f"$ {line}\n{net.server.run(*line.split()).stdout}" for line in ("uname -a", "ss -lntm", "sysctl -a"))
    )
    return taken


def is_flooded(lab: Lab) -> Path:
    """A listener without SYN cookies in a flood."""
    net = pair(lab)
    net.server.sysctl["net.ipv4.tcp_syncookies"] = 0
    listener = listen(net.server, 32, answer=echo)
    with flood(net.server, net.client, listener, rate=300, seconds=30, distinct=5000):
        until(lambda: counters(net.server).TcpExt.TCPSynRetrans >= 60, what="SYN-ACKs that were sent again")
        return Files(net.server).snapshot()


def has_a_short_backlog(lab: Lab) -> Path:
    """A listener whose real clients are far away and come together; a few are half-open all the time."""
    net = pair(lab)
    net.server.sysctl["net.ipv4.tcp_syncookies"] = 1
    listener = listen(net.server, 16, answer=echo)
    begin_handshakes(net.client, listener, 3)

    def come() -> None:
        began = time.monotonic()
        while time.monotonic() - began < 3 * BETWEEN:
            far_clients(net.client, listener, 60)

    return Files(net.server).snapshot(come)


def has_no_port(lab: Lab) -> Path:
    """A client that has used up its ports."""
    net = pair(lab)
    give_ports(net.client, 20)
    asking = ShortConnections(net.client, [listen(net.server)], 20)
    keep_asking([asking], 20, stop_at_failure=True)
    return Files(net.client).snapshot()


def gets_no_answer(lab: Lab) -> Path:
    """A client whose SYNs are lost."""
    net = pair(lab)
    listener = listen(net.server)
    drop(net.server, "S", dport=listener.port)
    connect(net.client, listener, 3)
    until(lambda: counters(net.client).TcpExt.TCPSynRetrans >= 6, what="SYNs that were sent again twice")
    return Files(net.client).snapshot()


def has_a_silent_peer(lab: Lab) -> Path:
    """A client whose server falls silent."""
    net = pair(lab)
    listener = listen(net.server, answer=echo)
    clients = connect(net.client, listener, 2, wait=True)
    drop(net.server, dport=listener.port)
    for client in clients:
        client.socket.send(b"anybody there?")
    until(lambda: counters(net.client).Tcp.RetransSegs >= 10, what="data that was sent again, several times")
    return Files(net.client).snapshot()


def has_a_worker_that_hangs(lab: Lab) -> Path:
    """Four workers, of which one does not accept."""
    net = pair(lab)
    hanging = listen(net.server, 5, shared=True)
    for _ in range(3):
        listen(net.server, 5, port=hanging.port, shared=True, answer=echo)
    while hanging.waiting < 6:
        connect(net.client, hanging, wait=True)
    return Files(net.server).snapshot(lambda: connect(net.client, hanging, 12))


def is_forgotten(lab: Lab) -> Path:
    """A client whose firewall forgets connections that were idle, while others to the same server go on."""
    (chain,) = chains(lab, 1)
    watch(chain.between, remembers=10)
    listener = listen(chain.server, answer=echo)
    idle, used = (connect(chain.client, listener, n, wait=True) for n in (3, 2))
    began = time.monotonic()
    while time.monotonic() - began < IDLE:
        assert used.ask() == 2
        let_pass(1, what="connections to be idle")
    for each in idle:
        each.socket.send(b"still there?")
    until(lambda: counters(chain.client).Tcp.RetransSegs >= 12, what="data that was sent again, several times")
    return Files(chain.client).snapshot()


def has_no_port_outside(lab: Lab) -> Path:
    """A gateway with twenty ports outside."""
    (chain,) = chains(lab, 1, masquerade=True)
    chain.between.nat.masquerade(ports=(40000, 40019))
    listener = listen(chain.server, answer=echo)
    knock(chain.client, listener, 24)
    return Files(chain.between).snapshot(lambda: knock(chain.client, listener, 2))


def has_no_room(lab: Lab) -> Path:
    """A firewall whose table is full."""
    (chain,) = chains(lab, 1)
    watch(chain.between, remembers=432_000, loose=1)
    table = ConnectionTable(chain.between)
    table.lower(2000)
    table.fill((lab.cables[0].address(500, lab.family), chain.server.ip))
    listener = listen(chain.server, answer=echo)
    return Files(chain.between).snapshot(lambda: knock(chain.client, listener, 5))


def closes_too_soon(lab: Lab) -> Path:
    """A server behind a proxy that keeps connections for longer."""
    client, server, *between = lan(lab, 4).hosts
    nginx = Nginx(server, "8080", keepalive=1)
    proxies = [Proxy(host, nginx) for host in between]
    return Files(server).snapshot(partial(ask_late_together, client, proxies), goes_on=True)


def has_clients_with_other_clocks(lab: Lab) -> Path:
    """A server with tcp_rfc1337, and clients behind one port of a gateway."""
    net = behind_nat(lab)
    net.server.sysctl["net.ipv4.tcp_rfc1337"] = 1
    listener = listen(net.server)
    return Files(net.server).snapshot(lambda: meet_time_wait(net, listener, behind=1_000_000, patience=12))


class Incident(NamedTuple):
    """How it is provoked, what may be found (by how busy the machine is), what in the scenario is its cause (a pattern,
    and what removes it), and what each remedy is worth; those that are void are in `void`.
    """

    provoke: Callable[[Lab], Path]
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
        has_a_short_backlog, "backlog-too-short",
        (r"backlog=\d+,\n    somaxconn=\d+", "backlog=900,\n    somaxconn=900"),
        {"a longer queue": SAFE, "somaxconn without a restart": USELESS, "no SYN cookies": HARMFUL,
         "tcp_max_syn_backlog alone, with a restart": USELESS, "fewer SYN-ACK retransmissions": USELESS},
        {"somaxconn without a restart", "no SYN cookies", "tcp_max_syn_backlog alone, with a restart",
         "fewer SYN-ACK retransmissions"},
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
    Incident(
        is_forgotten, "flow-forgotten", ("REMEMBERS, PAUSE, WAITS = 2", "REMEMBERS, PAUSE, WAITS = 60"),
        {"the firewall remembers for longer": SAFE, "tcp_keepalive_time alone": USELESS,
         "keepalive of the connections, sooner than the firewall forgets": SAFE, "a lower tcp_fin_timeout": USELESS},
        {"tcp_keepalive_time alone", "a lower tcp_fin_timeout"},
    ),
    Incident(
        has_no_port_outside, "gateway-ports-used-up", ("PORTS, FIRST = 20", "PORTS, FIRST = 40"),
        {"another address outside": SAFE, "a wider ip_local_port_range of the gateway": USELESS,
         "tcp_tw_reuse": USELESS},
        {"a wider ip_local_port_range of the gateway", "tcp_tw_reuse", "a lower tcp_fin_timeout"},
    ),
    Incident(
        has_no_room, "conntrack-full", ("FULL = True", "FULL = False"),
        {"no track of what needs none": SAFE, "what nobody has any more is forgotten": SAFE, "tcp_tw_recycle": GONE,
         "a lower timeout, to make room now": USELESS, "tcp_max_syn_backlog": USELESS},
        {"a lower timeout, to make room now", "tcp_max_syn_backlog", "tcp_tw_recycle"},
    ),
    Incident(
        closes_too_soon, "keep-alive-too-short", ("KEEPS, PROXY_KEEPS = 1", "KEEPS, PROXY_KEEPS = 65"),
        {"the server keeps for longer than the proxy": SAFE, "the proxy keeps none": SAFE, "tcp_tw_reuse": USELESS},
        {"tcp_tw_reuse", "a lower tcp_fin_timeout", "tcp_max_syn_backlog"},
    ),
    Incident(
        has_clients_with_other_clocks, "timestamps-refused", ("BEHIND = 1000000", "BEHIND = 0"),
        {"no tcp_rfc1337": SAFE, "more ports of the gateway outside": SAFE,
         "no tcp_tw_recycle": GONE, "tcp_tw_reuse": USELESS},
        {"no tcp_tw_recycle", "tcp_tw_reuse"},
    ),
]  # fmt: skip


@pytest.mark.ipv4_only("the files, and what is made of them, are of the same kind for both")
@pytest.mark.slow(60)
@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: incident.provoke.__name__)
def test_from_the_files_to_the_remedy(lab: Lab, incident: Incident, tmp_path: Path) -> None:
    taken = incident.provoke(lab)
    file = tmp_path / "test_incident.py"
    finding = found(taken, incident)
    said = CliRunner().invoke(cli, ["reproduce", str(taken), "-o", str(file), "--finding", finding])
    assert said.exit_code == 0, said.output
    assert passed(file) == {"symptom": True, "control": True}
    turned, times = re.subn(*incident.cause, file.read_text())
    assert times == 1
    file.write_text(turned)
    assert passed(file, "symptom") == {"symptom": False}
    judge(try_remedies(case_of(read([taken]), finding, here=True)), incident)


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


def passed(file: Path, *roles: str) -> dict[str, bool]:
    """Which of a scenario's tests pass over IPv4, by what their docstrings say they are: the symptom, the control."""
    tests = re.findall(r'^def (test_\w+)\(.*\n    """The (symptom|control)', file.read_text(), re.MULTILINE)
    wanted = [(name, role) for name, role in tests if role in (roles or ("symptom", "control"))]
    chosen = f"ipv4 and ({' or '.join(name for name, _ in wanted)})"
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rA",
        "-k",
        chosen,
        "-p",
        "no:cacheprovider",
        "--rootdir",
        file.parent,
        file,
    ]
    ran = subprocess.run([str(word) for word in words], cwd=ROOT, capture_output=True, text=True, check=False)
    outcomes: dict[str, bool] = {}
    for name, role in wanted:
        seen = re.findall(rf"^(PASSED|FAILED|ERROR) .*::{name}\[", ran.stdout, re.MULTILINE)
        assert seen, ran.stdout
        outcomes[role] = outcomes.get(role, True) and set(seen) == {"PASSED"}
    return outcomes


def test_who_is_asked_less_often_on_a_busy_machine_looks_no_better(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def keep_asking(asking: Sequence[ShortConnections], *_: object, **__: object) -> None:
        """Each has 30 ports, and the second came to 40 requests alone."""
        for each, requests in zip(asking, (60, 40), strict=True):
            each.results += [(n / 10, "ok" if n < 30 else "EADDRNOTAVAIL") for n in range(requests)]

    monkeypatch.setattr(out_of_ports, "keep_asking", keep_asking)
    client = out_of_ports.OutOfPorts(scale=(), notes=())
    found = out_of_ports.OutOfPorts.side_by_side(lab, {"as it is": client, "starved": client})
    assert {name: outcome.symptom for name, outcome in found.items()} == {"as it is": 10, "starved": 10}
