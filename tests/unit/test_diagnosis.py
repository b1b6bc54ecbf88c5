"""Diagnoses of machines whose trouble is known: cause and place first, two at once, nothing where nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from harness.claims.files import load
from harness.diagnosis.catalogue import NAMES
from harness.diagnosis.diagnose import diagnose
from harness.diagnosis.findings import Certainty, Diagnosis
from harness.diagnosis.ports import reserved_within
from harness.evidence.types import Endpoint, Verdict
from harness.incident.collector.kernel import told_by
from harness.incident.conntrack import Tracked
from harness.incident.counters import LeftOut, Sample
from harness.incident.facts import Basis, Fact, Moment
from harness.incident.machine import Namespace, Process, Told
from harness.report.diagnosis.lines import headline
from tests.unit.machines import (
    HERE,
    SYSCTLS,
    coming,
    counted,
    going,
    listener,
    machine,
    sample,
    silent,
    sockets,
    tracked,
)  # fmt: skip

if TYPE_CHECKING:
    from harness.incident.machine import Machine

ROOT = Path(__file__).parents[2]
DATABASE = Endpoint("10.0.0.9", 5432)
CERTAIN, LIKELY, POSSIBLE = Certainty


def said(picture: Machine) -> list[tuple[str, Certainty, str]]:
    """The findings: which, how sure, and where."""
    return [(each.diagnosis, each.sure, each.place.name) for each in diagnose(picture).findings]


def names(picture: Machine) -> list[str]:
    return [each.diagnosis for each in diagnose(picture).findings]


def a_flood(**more: Any) -> dict[str, Any]:
    """What a flood at port 80 makes of a machine with SYN cookies."""
    return {
        "counters": counted({}, TCPReqQFullDoCookies=3000, SyncookiesSent=3000, SyncookiesRecv=2, **more),
        "listeners": (listener(80, 0, 128), listener(3000, 0, 10)),
        "sockets": (sockets(coming("SYN-RECV", 80, 129, retransmitting=120)),),
    }


def test_nothing_is_wrong_with_a_healthy_machine() -> None:
    said = diagnose(machine(listeners=(listener(80, 0, 128),)))
    assert said.findings == ()
    assert said.looked_for == NAMES


# The accept queue.


def test_a_full_accept_queue_is_named_with_its_listener() -> None:
    picture = machine(
        counters=counted({}, ListenOverflows=5116, ListenDrops=5116),
        listeners=(listener(80, 0, 128), listener(3000, 11, 10, 11, programs=("nginx",))),
    )
    assert said(picture) == [("accept-queue-full", CERTAIN, "0.0.0.0:3000 (nginx)")]
    finding = diagnose(picture).findings[0]
    assert "11 connections wait where 10 are allowed" in finding.reasons[0].says
    assert next(each.advice for each in finding.useless) == "a higher tcp_max_syn_backlog, alone"


@pytest.mark.parametrize(("waiting", "full"), [(10, False), (11, True)])
def test_full_is_longer_than_the_limit(waiting: int, *, full: bool) -> None:
    assert ("accept-queue-full" in names(machine(listeners=(listener(3000, waiting, 10),)))) is full


def test_where_nobody_was_turned_away_a_full_queue_is_only_likely() -> None:
    assert said(machine(listeners=(listener(3000, 11, 10),))) == [("accept-queue-full", LIKELY, "0.0.0.0:3000")]


def test_without_limits_a_queue_as_long_as_somaxconn_allows_is_full() -> None:
    quiet = machine(listeners=(listener(3000, 128, None),), sysctls={"net.core.somaxconn": "128"})
    full = machine(listeners=(listener(3000, 129, None),), sysctls={"net.core.somaxconn": "128"})
    assert (names(quiet), names(full)) == ([], ["accept-queue-full"])


def test_an_overflow_that_no_look_has_seen_is_where_the_sockets_own_drops_rise() -> None:
    seen = listener(3000, 0, 10)
    looks = tuple(
        msgspec.structs.replace(look, drops=drops) for look, drops in zip(seen.looks * 2, (4, 9), strict=True)
    )
    moved = counted({}, ListenOverflows=5, ListenDrops=5)
    known = machine(counters=moved, listeners=(msgspec.structs.replace(seen, looks=looks), listener(80, 0, 128)))
    unknown = machine(counters=moved, listeners=(seen,))
    assert said(known) == [("accept-queue-full", CERTAIN, "0.0.0.0:3000")]
    assert said(unknown) == [("accept-queue-full", CERTAIN, "a listener that the files do not show")]


def test_one_worker_of_four_that_hangs_is_the_cause_of_its_full_queue() -> None:
    full = listener(80, 6, 5, 6, mark="101", processes=(7,))
    picture = machine(
        counters=counted({}, ListenOverflows=40, ListenDrops=40),
        listeners=(full, *(listener(80, 0, 5, 0, mark=str(mark)) for mark in (102, 103, 104))),
        rest={"processes": (Process(7, "nginx", HERE, 1024, 1024, 20),)},
    )
    assert [each[:2] for each in said(picture)] == [("worker-hangs", CERTAIN), ("accept-queue-full", CERTAIN)]
    first, second = diagnose(picture).findings
    assert "nginx, process 7" in first.what
    assert (first.follows_from, second.follows_from) == ((), (1,))


def test_a_listener_that_one_output_names_and_another_does_not_is_no_second_worker() -> None:
    named, unnamed = listener(80, 0, 5, mark="101"), listener(80, 6, 5)
    assert names(machine(listeners=(named, unnamed))) == ["accept-queue-full"]


def test_all_workers_that_are_busy_do_not_hang() -> None:
    full = tuple(listener(80, 6, 5, mark=str(mark)) for mark in range(4))
    assert set(names(machine(listeners=full))) == {"accept-queue-full"}


def test_a_program_without_descriptors_is_the_cause_of_its_full_queue() -> None:
    picture = machine(
        counters=counted({}, ListenOverflows=40, ListenDrops=40),
        listeners=(listener(80, 6, 5, 6, processes=(7,)),),
        rest={"processes": (Process(7, "nginx", HERE, 1024, 1024, 1024),)},
    )
    assert names(picture) == ["descriptors-used-up", "accept-queue-full"]


# The SYN queue.


def test_a_flood_is_told_from_a_backlog_that_is_too_short_by_the_cookies_that_come_back() -> None:
    crowd = a_flood() | {"counters": counted({}, TCPReqQFullDoCookies=3000, SyncookiesSent=3000, SyncookiesRecv=2900)}
    mixed = a_flood() | {"counters": counted({}, TCPReqQFullDoCookies=3000, SyncookiesSent=3000, SyncookiesRecv=900)}
    assert [said(machine(**each)) for each in (a_flood(), crowd, mixed)] == [
        [("syn-flood", CERTAIN, "0.0.0.0:80")],
        [("backlog-too-short", CERTAIN, "0.0.0.0:80")],
        [("syn-queue-full", LIKELY, "0.0.0.0:80")],
    ]


def test_without_cookies_a_flood_is_told_by_syn_acks_that_are_sent_again() -> None:
    flood = a_flood() | {"counters": counted({}, TCPReqQFullDrop=500, ListenDrops=500)}
    off = {"net.ipv4.tcp_syncookies": "0"}
    assert said(machine(**flood, sysctls=off)) == [("syn-flood", CERTAIN, "0.0.0.0:80")]
    flood["sockets"] = (sockets(coming("SYN-RECV", 80, 129)),)
    assert said(machine(**flood, sysctls=off)) == [("syn-queue-full", LIKELY, "0.0.0.0:80")]


def test_drops_of_the_last_quarter_belong_to_the_syn_queue() -> None:
    """With cookies off and a small tcp_max_syn_backlog no counter but ListenDrops rises."""
    flood = a_flood() | {"counters": counted({}, ListenDrops=500)}
    flood["sockets"] = (sockets(coming("SYN-RECV", 80, 97, retransmitting=90)),)
    picture = machine(**flood, sysctls={"net.ipv4.tcp_syncookies": "0", "net.ipv4.tcp_max_syn_backlog": "128"})
    assert said(picture) == [("syn-flood", CERTAIN, "0.0.0.0:80")]


def test_two_incidents_at_once_are_both_found() -> None:
    both = a_flood(ListenOverflows=300, ListenDrops=300) | {
        "listeners": (listener(80, 0, 128), listener(3000, 11, 10, 11))
    }
    assert said(machine(**both)) == [
        ("syn-flood", CERTAIN, "0.0.0.0:80"),
        ("accept-queue-full", CERTAIN, "0.0.0.0:3000"),
    ]


# The traps.


def test_with_cookies_always_their_counter_is_no_full_queue() -> None:
    always = {"net.ipv4.tcp_syncookies": "2"}
    picture = machine(counters=counted({}, TCPReqQFullDoCookies=500), sysctls=always)
    assert names(picture) == []
    assert any("tcp_syncookies is 2" in each.says for each in diagnose(picture).remarks)
    assert names(machine(counters=counted({}, TCPReqQFullDoCookies=500))) == ["syn-queue-full"]


@pytest.mark.parametrize(("kernel", "found"), [("4.4.178", []), ("4.14.67", ["drops-unexplained"])])
def test_cookies_counted_as_listen_drops_once(kernel: str, found: list[str]) -> None:
    moved = counted({}, ListenDrops=400, SyncookiesSent=400)
    always = {"net.ipv4.tcp_syncookies": "2"}
    assert names(machine(counters=moved, kernel=kernel, sysctls=always)) == found


def test_an_overflow_raises_listen_drops_as_well_and_another_drop_is_what_is_left() -> None:
    overflow = machine(counters=counted({}, ListenOverflows=50, ListenDrops=50))
    both = machine(counters=counted({}, ListenOverflows=50, ListenDrops=70))
    assert "drops-unexplained" not in names(overflow)
    assert ("drops-unexplained", LIKELY, "a listener that the files do not show") in said(both)


def test_a_few_more_drops_than_overflows_are_counters_read_one_after_the_other() -> None:
    assert names(machine(counters=counted({}, ListenOverflows=100_000, ListenDrops=100_007))) == ["accept-queue-full"]


def test_counters_since_boot_prove_nothing_about_now() -> None:
    high = {"TcpExt.ListenOverflows": 160_000, "TcpExt.ListenDrops": 160_000}
    still, alone = machine(counters=counted(high)), machine(counters=(sample(high, None),), uptime=864_000.0)
    assert names(still) == []
    assert "did not rise in 3 s" in diagnose(still).remarks[0].says
    assert said(alone) == [("accept-queue-full", POSSIBLE, "a listener that the files do not show")]
    assert "nothing of now" in diagnose(alone).findings[0].reasons[0].says
    few = machine(counters=(sample({"TcpExt.ListenOverflows": 12}, None),))
    assert names(few) == []


def test_without_rates_it_asks_for_a_second_set_of_files() -> None:
    missing = {each.what: each for each in diagnose(machine(counters=(sample({}, 5.0),))).missing}
    assert missing["rates"].why == "there is one sample only"
    assert "a second set of counters" in missing["rates"].give
    assert "accept-queue-full" in missing["rates"].diagnoses


def test_counters_that_node_exporter_leaves_out_are_not_zero() -> None:
    some = tuple(
        Sample(HERE, {f"TcpExt.{name}": Fact(value, HERE) for name in ("ListenDrops",)}, ("TcpExt",), LeftOut.SOME,
               Moment(at, Basis.SAID))
        for at, value in ((0.0, 0), (5.0, 900))
    )  # fmt: skip
    assert names(machine(counters=some)) == []


@pytest.mark.parametrize(("kernel", "found"), [("4.9.0", []), ("4.14.67", ["time-wait-cap"])])
def test_time_wait_of_the_machine_is_not_held_against_a_namespace(kernel: str, found: list[str]) -> None:
    picture = machine(kernel=kernel)
    web = msgspec.structs.replace(
        machine(gauges={"sockstat.TCP.tw": 65_000}).own, name="web", sysctls=picture.own.sysctls
    )
    assert names(msgspec.structs.replace(picture, namespaces=(picture.own, web))) == found


def test_memory_and_orphans_are_the_machines_and_found_once() -> None:
    picture = machine(gauges={"sockstat.TCP.mem": 3100, "sockstat.TCP.orphan": 3000})
    twice = msgspec.structs.replace(picture, namespaces=(picture.own, msgspec.structs.replace(picture.own, name="web")))
    assert said(twice) == [("orphans", LIKELY, "tcp_max_orphans"), ("tcp-memory", CERTAIN, "tcp_mem")]


# Tables.


@pytest.mark.parametrize(("waiting", "found"), [(50_000, []), (60_000, [("time-wait-cap", LIKELY)])])
def test_time_wait_near_its_cap(waiting: int, found: list[tuple[str, Certainty]]) -> None:
    assert [each[:2] for each in said(machine(gauges={"sockstat.TCP.tw": waiting}))] == found


def test_time_wait_that_is_destroyed_is_certain() -> None:
    assert [each[:2] for each in said(machine(counters=counted({}, TCPTimeWaitOverflow=9)))] == [
        ("time-wait-cap", CERTAIN)
    ]


@pytest.mark.parametrize(
    ("count", "found"),
    [(700, []), (800, [("conntrack-full", POSSIBLE)]), (960, [("conntrack-full", LIKELY)])],
)
def test_the_table_of_tracked_connections(count: int, found: list[tuple[str, Certainty]]) -> None:
    assert [each[:2] for each in said(machine(sysctls=tracking(count)))] == found


@pytest.mark.parametrize(
    ("count", "dropped", "clashes", "found"),
    [
        (10, 0, 0, []),
        (10, 3, 0, [("conntrack-full", POSSIBLE)]),
        (10, 3, 3, [("conntrack-full", POSSIBLE)]),
        (10, 3, 4, [("conntrack-full", POSSIBLE)]),
        (10, 5, 3, [("conntrack-full", POSSIBLE)]),
        (1000, 3, 0, [("conntrack-full", CERTAIN)]),
        (1000, 5, 3, [("conntrack-full", CERTAIN)]),
    ],
)
def test_the_log_is_about_another_namespace_where_nothing_was_dropped_for_want_of_an_entry(
    count: int, dropped: int, clashes: int, found: list[tuple[str, Certainty]]
) -> None:
    """Old kernels name no namespace in that line; new ones give the number of one that is gone to the next."""
    numbers = {"conntrack.drop": Fact(dropped, HERE), "conntrack.insert_failed": Fact(clashes, HERE)}
    statistics = Sample(HERE, numbers, ("conntrack",), LeftOut.NOTHING, Moment(5.0, Basis.SAID))
    log = ((Told.CONNTRACK_FULL, "nf_conntrack: table full, dropping packet"),)
    assert [each[:2] for each in said(machine(sysctls=tracking(count), told=log, counters=(statistics,)))] == found


@pytest.mark.parametrize(("dropped", "clashes", "full"), [(80, 80, False), (80, 90, False), (81, 80, True)])
def test_at_a_gateway_without_ports_what_clashed_is_no_full_table(dropped: int, clashes: int, full: bool) -> None:
    """An entry that clashed with another may have been resolved, and its packet not dropped."""
    flow = Tracked("tcp", "TIME_WAIT", Endpoint("203.0.113.5", 443), 100, HERE, seen_as="203.0.113.1", ports=100)
    numbers = {"conntrack.drop": dropped, "conntrack.insert_failed": clashes}
    counted = (sample(dict.fromkeys(numbers, 0), 1.0), sample(numbers, 9.0))
    log = ((Told.CONNTRACK_FULL, "nf_conntrack: table full, dropping packet"),)
    found = said(machine(conntrack=(tracked(flow),), told=log, counters=counted, sysctls=tracking(10)))
    assert ("conntrack-full" in [each[0] for each in found]) is full
    assert "gateway-ports-used-up" in [each[0] for each in found]


def test_a_gateway_that_has_some_ports_left_does_not_explain_away_a_full_table() -> None:
    """Its clashes may all have been resolved: as many as that since the machine began."""
    flow = Tracked("tcp", "TIME_WAIT", Endpoint("203.0.113.5", 443), 60_000, HERE, seen_as="203.0.113.1", ports=60_000)
    numbers = {"conntrack.drop": 1000, "conntrack.insert_failed": 1500}
    log = ((Told.CONNTRACK_FULL, "nf_conntrack: table full, dropping packet"),)
    counted = (sample(numbers, 1.0), sample(numbers, 9.0))
    found = said(machine(conntrack=(tracked(flow),), told=log, counters=counted, sysctls=tracking(10)))
    assert {each[0] for each in found} == {"conntrack-full", "gateway-ports-used-up"}


def tracking(count: int) -> dict[str, str]:
    """The sysctls of a table of 1000 that has `count` entries."""
    return {"net.netfilter.nf_conntrack_max": "1000", "net.netfilter.nf_conntrack_count": str(count)}


def test_a_container_comes_after_the_machine_and_says_so() -> None:
    """Of two findings that are as sure; a surer one comes first wherever it is."""
    whole = machine(sysctls={"net.netfilter.nf_conntrack_max": "1000", "net.netfilter.nf_conntrack_count": "960"})
    full = machine(counters=counted({}, ListenOverflows=5), listeners=(listener(80, 11, 10, 11),))
    web, nearly = msgspec.structs.replace(full.own, name="web"), msgspec.structs.replace(whole.own, name="a")
    of_each = diagnose(msgspec.structs.replace(whole, namespaces=(whole.own, web, nearly)))
    found = [(each.diagnosis, each.place.namespace) for each in of_each.findings]
    assert found == [("accept-queue-full", "web"), ("conntrack-full", ""), ("conntrack-full", "a")]
    assert of_each.findings[0].sentence.startswith("In network namespace web: The accept queue of")
    assert "3 findings, 2 in other network namespaces, causes first" in headline(of_each)


def test_a_table_of_another_namespace_is_not_the_machine_s() -> None:
    line = "nf_conntrack: nf_conntrack: table full in netns 4026543145, dropping packet"
    assert told_by(line, 4026531840) == Told.CONNTRACK_FULL_ELSEWHERE
    assert told_by(line, 4026543145) == Told.CONNTRACK_FULL
    assert told_by("nf_conntrack: table full, dropping packet", 0) == Told.CONNTRACK_FULL
    limits = {"net.netfilter.nf_conntrack_max": "1000", "net.netfilter.nf_conntrack_count": "10"}
    found = diagnose(machine(sysctls=limits, told=((Told.CONNTRACK_FULL_ELSEWHERE, line),)))
    assert found.findings == ()
    assert "another network namespace" in found.remarks[0].says


# Ports.


@pytest.mark.parametrize(
    ("number", "found"),
    [(20_000, []), (23_000, [("ports-used-up", LIKELY)]), (28_232, [("ports-used-up", CERTAIN)])],
)
def test_ports_are_used_up_towards_one_destination(number: int, found: list[tuple[str, Certainty]]) -> None:
    picture = machine(sockets=(sockets(going("TIME-WAIT", DATABASE, number - 10), going("ESTAB", DATABASE, 10)),))
    assert [each[:2] for each in said(picture)] == found


def test_as_many_time_wait_of_several_destinations_are_no_trouble() -> None:
    several = [going("TIME-WAIT", Endpoint(f"10.0.0.{n}", 80), 10_000) for n in range(2, 6)]
    picture = machine(sockets=(sockets(*several),), gauges={"sockstat.TCP.tw": 40_000})
    assert names(picture) == []
    assert "no trouble by itself" in diagnose(picture).remarks[0].says


@pytest.mark.parametrize(
    ("peer", "reuse", "found"),
    [
        ("10.0.0.9", "2", ["ports-used-up"]),
        ("127.0.0.1", "2", []),
        ("10.0.0.9", "1", []),
        ("10.0.0.9", "0", ["ports-used-up"]),
    ],
)
def test_ports_that_connect_takes_over_are_free(peer: str, reuse: str, found: list[str]) -> None:
    used = sockets(going("TIME-WAIT", Endpoint(peer, 80), 28_000))
    assert names(machine(sockets=(used,), sysctls={"net.ipv4.tcp_tw_reuse": reuse})) == found


def test_reserved_ports_are_not_to_be_had() -> None:
    used: dict[str, Any] = {"sockets": (sockets(going("ESTAB", DATABASE, 8)),)}
    few = {"net.ipv4.ip_local_port_range": "40000 40019"}
    reserved = few | {"net.ipv4.ip_local_reserved_ports": "8080,40000-40009"}
    assert (names(machine(**used, sysctls=few)), names(machine(**used, sysctls=reserved))) == ([], ["ports-used-up"])


@pytest.mark.parametrize(
    ("spelled", "count"),
    [
        ("", 0),
        ("8080, 40000-40009,50000", 11),
        ("39990-40001", 2),
        ("40000-", 0),
        ("4000²", 0),
        ("40000-4000²,40001", 1),
        ("9" * 5000, 0),
        ("40000-" + "9" * 5000, 0),
    ],
)
def test_reserved_ports_are_counted_as_far_as_they_are_ports(spelled: str, count: int) -> None:
    assert reserved_within(spelled, 40_000, 50_000) == count


def test_a_gateway_without_ports() -> None:
    server = Endpoint("203.0.113.5", 443)
    flow = Tracked("tcp", "TIME_WAIT", server, 64_000, HERE, sources=20, seen_as="203.0.113.1", ports=64_000)
    failing = (sample({}, 1.0), sample({"conntrack.insert_failed": 80}, 9.0))
    picture = machine(conntrack=(tracked(flow),), counters=failing)
    assert said(picture) == [("gateway-ports-used-up", CERTAIN, "203.0.113.5:443")]
    few = msgspec.structs.replace(flow, entries=100, ports=100)
    assert said(machine(conntrack=(tracked(few),), counters=failing))[0][:2] == ("gateway-ports-used-up", LIKELY)
    assert names(machine(conntrack=(tracked(few),))) == []


# The way.


def test_loss_leaves_syns_apart() -> None:
    sent = {"Tcp.OutSegs": 10_000, "Tcp.RetransSegs": 400}
    lost, syns = sample(sent, 3.0), sample(sent | {"TcpExt.TCPSynRetrans": 390}, 3.0)
    assert [said(machine(counters=(sample({}, 0.0), after)))[:1] for after in (lost, syns)] == [
        [("loss", LIKELY, "the network")],
        [],
    ]


def test_segments_that_were_there_already_are_not_lost() -> None:
    after = sample({"Tcp.OutSegs": 10_000, "Tcp.RetransSegs": 400, "TcpExt.TCPDSACKRecv": 390}, 3.0)
    assert "late or out of order" in diagnose(machine(counters=(sample({}, 0.0), after))).findings[0].what


def test_a_database_that_answers_no_syn() -> None:
    flow = going("SYN-SENT", DATABASE, 40, retransmitting=38, most_retransmits=4)
    picture = machine(sockets=(sockets(flow),), sysctls={"net.ipv4.tcp_syn_linear_timeouts": "4"})
    assert said(picture) == [("connect-unanswered", CERTAIN, "10.0.0.9:5432")]
    assert "goes on for 131 s" in diagnose(picture).findings[0].reasons[2].says
    once = going("SYN-SENT", DATABASE, 1, retransmitting=1, most_retransmits=1)
    assert names(machine(sockets=(sockets(once),))) == []


def test_a_silent_peer_is_told_from_a_flow_that_a_firewall_forgot() -> None:
    """Both repeat themselves; the one was idle before, and others are answered."""
    stuck = going("ESTAB", DATABASE, 20, retransmitting=5, most_retransmits=6)
    at_once = silent(DATABASE, 6, rto=12_800, lastrcv=12_900)
    idle = silent(DATABASE, 6, rto=12_800, lastrcv=312_600)
    gone = machine(sockets=(sockets(stuck, notable=(at_once,)),))
    forgotten = machine(sockets=(sockets(stuck, notable=(idle,)),))
    assert said(gone) == [("silent-peer", LIKELY, "10.0.0.9:5432")]
    assert said(forgotten) == [("flow-forgotten", LIKELY, "10.0.0.9:5432")]
    assert "idle, one for 300 s" in diagnose(forgotten).findings[0].reasons[0].says


def test_clients_of_a_service_that_go_away_are_everyday() -> None:
    everyday = coming("ESTAB", 80, 500, retransmitting=4, most_retransmits=9)
    many = coming("ESTAB", 80, 500, retransmitting=100, most_retransmits=9)
    found = [names(machine(sockets=(sockets(flow),))) for flow in (everyday, many)]
    assert found == [[], ["silent-peer"]]


# Timestamps, and the machine itself.


@pytest.mark.parametrize(
    ("kernel", "recycle", "passive", "found"),
    [
        ("4.9.0", "1", 30, [("nat-and-tw-recycle", CERTAIN)]),
        ("4.9.0", "1", 0, [("nat-and-tw-recycle", POSSIBLE)]),
        ("4.9.0", "0", 0, []),
        ("4.19.0", "1", 0, []),
    ],
)
def test_recycle_behind_nat(kernel: str, recycle: str, passive: int, found: list[tuple[str, Certainty]]) -> None:
    moved = counted({}, PAWSPassive=passive, ListenDrops=passive)
    picture = machine(kernel=kernel, counters=moved, sysctls={"net.ipv4.tcp_tw_recycle": recycle})
    assert [each[:2] for each in said(picture)] == found


@pytest.mark.parametrize(
    ("counter", "name"), [("TCPBacklogDrop", "socket-backlog"), ("IPReversePathFilter", "reverse-path")]
)
def test_the_machine_itself(counter: str, name: str) -> None:
    assert said(machine(counters=counted({}, **{counter: 90}))) == [(name, CERTAIN, "this machine")]
    assert names(machine(counters=counted({}, **{counter: 2}))) == []


def test_packets_that_a_processor_drops_are_the_cause_of_loss() -> None:
    softnet = tuple(
        Sample(HERE, {"softnet.dropped.cpu0": Fact(value, HERE)}, ("softnet",), LeftOut.NOTHING, Moment(at, Basis.SAID))
        for at, value in ((0.0, 0), (3.0, 900))
    )
    lost = (sample({}, 0.0), sample({"Tcp.OutSegs": 10_000, "Tcp.RetransSegs": 400}, 3.0))
    picture = machine(counters=lost, rest={"softnet": softnet})
    assert [(each.diagnosis, each.follows_from) for each in diagnose(picture).findings] == [
        ("processor-backlog", ()),
        ("loss", (1,)),
    ]


def test_a_server_that_closes_what_its_clients_still_use() -> None:
    moved = counted({}, TCPAbortOnData=12)
    closed = sockets(coming("TIME-WAIT", 8080, 40))
    picture = machine(counters=moved, sockets=(closed,), listeners=(listener(8080, 0, 511),))
    assert said(picture) == [("keep-alive-too-short", POSSIBLE, "0.0.0.0:8080")]
    once = msgspec.structs.replace(picture.own, counters=counted({}, TCPAbortOnData=1))
    assert said(msgspec.structs.replace(picture, namespaces=(once,))) == []
    assert names(machine(counters=moved)) == []


# What goes with a finding.


def test_claims_have_their_verdict_for_the_machines_kernel() -> None:
    claims = load(ROOT / "scenarios" / "claims")
    flow = going("SYN-SENT", DATABASE, 1, retransmitting=1, most_retransmits=4)
    verdicts = {}
    for kernel in ("4.9.0", "6.12.1"):
        explained = diagnose(machine(kernel=kernel, sockets=(sockets(flow),)), claims).findings[0].explanations
        verdicts[kernel] = next(each.verdict for each in explained if each.claim == "connect-timeout.syn-retries-table")
    assert verdicts == {"4.9.0": Verdict.HOLDS, "6.12.1": Verdict.REFUTED}


@pytest.mark.parametrize(
    ("kernel", "why"), [("6.12.1", "there is no such sysctl any more"), ("4.9.0", "it shuts out clients")]
)
def test_void_advice_says_why_on_that_kernel(kernel: str, why: str) -> None:
    finding = diagnose(machine(kernel=kernel, listeners=(listener(3000, 11, 10),))).findings[0]
    assert next(each.why for each in finding.useless if "recycle" in each.advice).startswith(why)


def test_a_distributions_kernel_may_have_later_changes() -> None:
    claims = load(ROOT / "scenarios" / "claims")
    full: dict[str, Any] = {"listeners": (listener(3000, 11, 10),)}
    hedges = {
        k: diagnose(machine(kernel=k, **full), claims).findings[0].explanations[0].hedge
        for k in ("3.10.0-957.el7", "6.12.1")
    }
    assert (bool(hedges["3.10.0-957.el7"]), hedges["6.12.1"]) == (True, "")


def test_every_claim_that_explains_exists_and_every_finding_has_advice() -> None:
    from harness.diagnosis.advice import table

    claims = load(ROOT / "scenarios" / "claims")
    named = {name for useful in table().finding.values() for name in useful.claims}
    named |= {vain.claim for vain in table().useless.values() if vain.claim}
    assert named - claims.keys() == set()
    assert table().finding.keys() == set(NAMES)
    used = {name for useful in table().finding.values() for name in useful.useless}
    assert used == table().useless.keys()


def test_every_threshold_is_used_and_stands_in_the_table_alone() -> None:
    from harness.diagnosis.thresholds import THRESHOLDS

    code = "".join(file.read_text() for file in (ROOT / "harness" / "diagnosis").glob("*.py"))
    assert [name for name in THRESHOLDS if f'"{name}"' not in code] == []
    assert [name for name, each in THRESHOLDS.items() if not each.source] == []


def test_a_diagnosis_travels_as_json_by_its_schema() -> None:
    import jsonschema

    from harness.diagnosis.findings import as_json
    from harness.evidence.json_schema import schema_text

    said = diagnose(machine(**a_flood()), load(ROOT / "scenarios" / "claims"))
    assert msgspec.json.decode(as_json(said), type=Diagnosis) == said
    jsonschema.validate(msgspec.json.decode(as_json(said)), msgspec.json.decode(schema_text(Diagnosis)))


def test_a_machine_of_which_nothing_is_known_has_no_findings_and_much_is_missing() -> None:
    from harness.incident.machine import Machine

    said = diagnose(Machine((Namespace(""),)))
    assert said.findings == ()
    assert {"rates", "list of the sockets", "sysctls", "version of the kernel"} <= {each.what for each in said.missing}
    assert SYSCTLS


def test_a_look_without_a_limit_does_not_hide_one_with_a_limit() -> None:
    """Of a queue that netstat lists as well, which knows no limit."""
    seen, bare = listener(3000, 6, 5), listener(3000, 6, None)
    both = msgspec.structs.replace(seen, looks=(*bare.looks, *seen.looks, *bare.looks))
    assert names(machine(listeners=(both,))) == ["accept-queue-full"]
