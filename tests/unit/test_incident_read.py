"""What operators have, read into a picture: real outputs of a full accept queue, and those that the documents quote.

incident_files/ was written by the commands that its names say, inside a lab: a listener on 10.1.0.2:14001 with a
backlog of 5, nine clients of which six connected, and a quiet listener on port 14002. `second` was taken some seconds
after `first`. Dropped SYNs are repeated meanwhile: outputs of one directory are not of one moment.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from harness.errors import BadInput
from harness.evidence.types import Endpoint
from harness.incident import streams
from harness.incident.counters import LeftOut, Rate
from harness.incident.facts import Fact, Source, Unknown
from harness.incident.places import is_passed_over, places
from harness.incident.read import read
from harness.incident.sockets import Direction
from harness.incident.streams import find_zstandard

FILES = Path(__file__).parent / "incident_files"
FIRST = FILES / "full_queue" / "first"
FULL, QUIET = Endpoint("10.1.0.2", 14001), Endpoint("10.1.0.2", 14002)
OVERFLOWS = "TcpExt.ListenOverflows"


def listeners(path: Path) -> dict[Endpoint, tuple[int, int | None, int | None]]:
    """Queue, limit and drops of each listener in a file."""
    return {each.local: (each.last.waiting, each.last.limit, each.last.drops) for each in read([path]).own.listeners}


@pytest.mark.parametrize(
    ("file", "limits", "drops"),
    [
        ("ss_-lntp", (5, 8), (None, None)),
        ("ss_-tanpoi", (5, 8), (None, None)),
        ("ss_-lntm", (5, 8), (9, 0)),
        ("ss_-tanpoemi", (5, 8), (6, 0)),
        ("netstat_-nat", (None, None), (None, None)),
        ("netstat_-W_-neopa", (None, None), (None, None)),
        ("proc/net/tcp", (None, None), (None, None)),
    ],
)
def test_every_list_of_sockets_shows_the_queues(
    file: str, limits: tuple[int | None, int | None], drops: tuple[int | None, int | None]
) -> None:
    assert listeners(FIRST / file) == {FULL: (6, limits[0], drops[0]), QUIET: (3, limits[1], drops[1])}


@pytest.mark.parametrize("file", ["ss_-tanpoi", "netstat_-nat", "proc/net/tcp"])
def test_every_list_of_sockets_sums_up_the_same_flows(file: str) -> None:
    (served,) = read([FIRST / file]).own.sockets
    assert [(flow.direction, flow.local, flow.peer, flow.sockets) for flow in served.flows] == [
        (Direction.IN, FULL, Endpoint("10.1.0.1", 0), 6),
        (Direction.IN, QUIET, Endpoint("10.1.0.1", 0), 3),
    ]
    (calling,) = read([FILES / "full_queue_client" / file]).own.sockets
    assert calling.states == {"ESTAB": 9, "SYN-SENT": 3}
    assert [(flow.direction, flow.state, flow.peer, flow.sockets) for flow in calling.flows] == [
        (Direction.OUT, "ESTAB", FULL, 6),
        (Direction.OUT, "SYN-SENT", FULL, 3),
        (Direction.OUT, "ESTAB", QUIET, 3),
    ]


def test_sockets_that_repeat_themselves_stand_alone() -> None:
    (calling,) = read([FILES / "full_queue_client" / "ss_-tanpoi"]).own.sockets
    first = calling.notable[0]
    assert len(calling.notable) == 3
    assert (first.state, first.peer, first.program, first.source.line) == ("SYN-SENT", FULL, "python", 14)
    assert first.timer is not None
    assert (first.timer.kind, first.timer.retransmits) == ("on", 6)
    assert (first.info["rto"], first.info["backoff"], first.info["retrans"], first.info["retrans_total"]) == (
        4000,
        2,
        1,
        6,
    )
    (flow,) = (flow for flow in calling.flows if flow.state == "SYN-SENT")
    assert (flow.retransmitting, flow.most_retransmits, flow.with_send_q) == (3, 6, 3)


@pytest.mark.parametrize(
    ("file", "left_out", "line", "overflows"),
    [
        ("netstat_-s", LeftOut.ZEROS, 36, 9),
        ("nstat_-az", LeftOut.NOTHING, 186, 9),
        ("nstat_-az_--json", LeftOut.NOTHING, 1, 9),
        ("proc/net/netstat", LeftOut.NOTHING, 2, 12),
    ],
)
def test_every_list_of_counters_has_the_overflows(file: str, left_out: LeftOut, line: int, overflows: int) -> None:
    (sample,) = read([FIRST / file]).own.counters
    assert (sample.of(OVERFLOWS), sample.left_out) == (Fact(overflows, Source(str(FIRST / file), line)), left_out)
    assert sample.taken is not None


def test_a_counter_that_netstat_does_not_print_is_zero_or_there_is_none() -> None:
    (printed,) = read([FIRST / "netstat_-s"]).own.counters
    (named,) = read([FIRST / "nstat_-az"]).own.counters
    nothing = printed.of("TcpExt.TCPTimeWaitOverflow")
    assert nothing == Fact(0, Source(str(FIRST / "netstat_-s"), 1))
    assert named.of("TcpExt.TCPNoSuchThing") == Unknown("the kernel has no such counter")


def test_all_samples_of_one_moment_agree() -> None:
    samples = read([FIRST]).own.counters
    names = ("Tcp.PassiveOpens", "Tcp.ActiveOpens", "Tcp.OutSegs", "TcpExt.TCPPureAcks", "TcpExt.SyncookiesSent")
    for name in names:
        values = {fact.value for fact in (sample.of(name) for sample in samples) if isinstance(fact, Fact)}
        assert len(values) == 1, name


def test_gauges() -> None:
    own = read([FIRST / "proc" / "net" / "sockstat", FIRST / "ss_-s"]).own
    assert own.gauge("sockstat.TCP.inuse") == Fact(11, Source(str(FIRST / "proc" / "net" / "sockstat"), 2))
    assert own.gauge("ss.estab") == Fact(9, Source(str(FIRST / "ss_-s"), 2))
    assert own.gauge("ss.ports") == Unknown("the kernel has no such counter")


def test_two_sets_give_a_rate_and_one_does_not(tmp_path: Path) -> None:
    both = tmp_path / "incident"
    shutil.copytree(FILES / "full_queue", both)
    for directory, seconds in ((both / "first", 1_000), (both / "second", 1_006)):
        for file in directory.rglob("*"):
            os.utime(file, (seconds, seconds))
    (both / "first" / "netstat_-s").unlink()
    moved = read([both]).own.rate(OVERFLOWS)
    assert isinstance(moved, Rate)
    assert (moved.amount, moved.seconds, moved.by_files) == (12, 6.0, True)
    alone = read([both / "first"]).own.rate(OVERFLOWS)
    assert isinstance(alone, Unknown)
    assert "apart, too near for a rate" in alone.why


def test_the_machine_itself() -> None:
    machine = read([FIRST])
    assert machine.version is not None
    assert machine.version.release == (6, 18, 44)
    assert machine.kernel == Fact("6.18.44-fc-v595", Source(str(FIRST / "uname_-a"), 1))
    assert [machine.processors, machine.numa_nodes] == [
        Fact(2, Source(str(FIRST / "lscpu"), 3)),
        Fact(1, Source(str(FIRST / "lscpu"), 6)),
    ]
    assert machine.sysctl("net.core.somaxconn").value == "8"  # type: ignore[union-attr]
    assert machine.sysctl("net.ipv4.tcp_tw_recycle") == Unknown("no file has it")
    assert machine.memory["MemTotal"].value == 24684096 * 1024
    assert machine.own.interfaces[0].offloads["tcp-segmentation-offload"] is True
    (softnet,) = machine.softnet
    assert {"softnet.dropped", "softnet.dropped.cpu0", "softnet.dropped.cpu1"} <= set(softnet.numbers)
    average = machine.since_boot(OVERFLOWS)
    assert isinstance(average, Rate)
    assert average.since_boot


def test_a_whole_directory_has_each_listener_once() -> None:
    seen = read([FIRST]).own.listeners
    assert [(each.local, each.mark != "") for each in seen] == [(FULL, True), (QUIET, True)]
    assert [len(each.looks) for each in seen] == [7, 7]
    assert seen[0].was_full
    assert not seen[1].was_full


SOS = {
    "proc/net/netstat": "proc/net/netstat",
    "netstat_-W_-neopa": "sos_commands/networking/netstat_-W_-neopa",
    "netstat_-s": "sos_commands/networking/netstat_-s",
    "nstat_-az": "sos_commands/networking/nstat_-zas",
    "ss_-tanpoemi": "sos_commands/networking/ss_-peaonmi",
    "sysctl_-a": "sos_commands/kernel/sysctl_-a",
    "uname_-a": "sos_commands/kernel/uname_-a",
}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
@pytest.mark.parametrize(
    "web",
    ["sos_commands/networking/namespaces/web/ip_netns_exec_web_{}", "sos_commands/networking/ip_netns_exec_web_{}"],
)
def test_a_sosreport_as_an_archive_with_a_namespace_in_either_layout(tmp_path: Path, mode: str, web: str) -> None:
    archive = tmp_path / "sosreport-host.tar"
    with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]
        for file, member in SOS.items():
            tar.add(FIRST / file, f"sosreport-host-2026/{member}")
        tar.add(FIRST / "nstat_-az", f"sosreport-host-2026/{web.format('nstat_-zas')}")
        tar.add(FIRST / "sysctl_-a", f"sosreport-host-2026/{web.format('sysctl_-a')}")
    machine = read([archive])
    assert [space.name for space in machine.namespaces] == ["", "web"]
    own, other = machine.namespaces
    assert [each.local for each in own.listeners] == [FULL, QUIET]
    assert machine.kernel == Fact(
        "6.18.44-fc-v595", Source(f"{archive}!sosreport-host-2026/sos_commands/kernel/uname_-a", 1)
    )
    assert (len(own.counters), len(other.counters)) == (3, 1)
    assert machine.sysctl("net.core.somaxconn", other).value == "8"  # type: ignore[union-attr]
    assert machine.since_boot(OVERFLOWS, other) == Unknown("nothing says how old the namespace is")


@pytest.fixture
def packed_with_zstd(tmp_path: Path) -> Path:
    """A sosreport as newer releases pack it."""
    zstandard = find_zstandard()
    if zstandard is None:
        pytest.skip("no module unpacks zstd here")
    archive = tmp_path / "sosreport-host.tar.zst"
    with zstandard.open(archive, "wb") as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        for file, member in SOS.items():
            tar.add(FIRST / file, f"sosreport-host-2026/{member}")
    return archive


def test_a_sosreport_that_zstd_has_packed(packed_with_zstd: Path) -> None:
    assert [each.local for each in read([packed_with_zstd]).own.listeners] == [FULL, QUIET]


def test_one_that_is_cut_off_says_so(packed_with_zstd: Path) -> None:
    packed_with_zstd.write_bytes(packed_with_zstd.read_bytes()[:-1000])
    try:
        told = list(read([packed_with_zstd]).notices)
    except BadInput as error:
        told = [str(error)]
    assert [line for line in told if "to its end" in line]


def test_a_bomb_of_zstd_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zstandard = find_zstandard()
    if zstandard is None:
        pytest.skip("no module unpacks zstd here")
    monkeypatch.setattr(streams, "SUSPECT", 1 << 16)
    bomb = tmp_path / "x.zst"
    bomb.write_bytes(zstandard.compress(b"net.core.somaxconn = 1\n" * 1_000_000))
    (notice,) = read([bomb]).notices
    assert "unpacks to more than" in notice


def test_without_a_module_for_zstd_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "find_zstandard", lambda: None)
    (tmp_path / "x.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    with pytest.raises(BadInput, match=r"backports\.zstd is not installed: unpack it first"):
        read([tmp_path / "x.zst"])


def test_a_directory_is_read_as_the_archive_of_it_is(tmp_path: Path) -> None:
    for file, member in SOS.items():
        place = tmp_path / "sosreport" / member
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(FIRST / file, place)
    assert [each.local for each in read([tmp_path / "sosreport"]).own.listeners] == [FULL, QUIET]


TRANSCRIPT = """\
$ date; netstat -s | grep overflowed
Sun Jun 28 10:43:39 CST 2020
    142383 times the listen queue of a socket overflowed

[root@web ~]# date; netstat -s | grep overflowed
Sun Jun 28 10:43:52 CST 2020
    164550 times the listen queue of a socket overflowed
root@web:~# sysctl net.core.somaxconn
net.core.somaxconn = 128
root@web:~# cat /proc/sys/net/ipv4/tcp_abort_on_overflow
0  # the default
$ ip netns exec inner ss -lnt
State      Recv-Q Send-Q     Local Address:Port   Peer Address:Port
LISTEN     0      32768      :::5921                :::*
LISTEN     11     10          *:3000                *:*
"""


def test_a_transcript_with_prompts_dates_and_a_namespace(tmp_path: Path) -> None:
    """The outputs are those of document 000."""
    file = tmp_path / "incident.txt"
    file.write_text(TRANSCRIPT)
    machine = read([file])
    moved = machine.own.rate(OVERFLOWS)
    assert isinstance(moved, Rate)
    assert str(moved) == "1.71e+03 a second (22167 in 13.0 s)"
    assert machine.own.counters[0].of("TcpExt.ListenDrops") == Unknown(
        f"{file} has a choice of counters, without this one"
    )
    assert machine.sysctl("net.core.somaxconn") == Fact("128", Source(str(file), 9))
    assert machine.sysctl("net.ipv4.tcp_abort_on_overflow") == Fact("0", Source(str(file), 11))
    (inner,) = machine.namespaces[1:]
    assert inner.name == "inner"
    assert [(str(each.local), each.was_full) for each in inner.listeners] == [("*:3000", True), ("[::]:5921", False)]


def test_a_configuration_does_not_say_what_is_in_force(tmp_path: Path) -> None:
    file = tmp_path / "99-tuning.conf"
    file.write_text("# more\nnet.core.somaxconn = 4096\n")
    machine = read([file])
    assert machine.sysctl("net.core.somaxconn") == Unknown("no file has it")
    assert machine.notices == (f"{file}: a configuration file: it does not say what is in force",)


def test_increments_are_no_counters(tmp_path: Path) -> None:
    file = tmp_path / "typed"
    file.write_text("$ nstat\n" + (FIRST / "nstat_-az").read_text())
    machine = read([file])
    assert machine.own.counters == ()
    assert machine.notices == (f"{file}: nstat without -a prints increments: not read; take nstat -az",)


def test_what_is_not_ours_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "letter.txt"
    file.write_text("Dear colleague,\n\nthe shop is slow again.\n")
    with pytest.raises(BadInput, match=r"letter\.txt: nothing in it that we read; give outputs of ss"):
        read([file])
    with pytest.raises(BadInput, match="no-such-file: cannot be read: No such file or directory"):
        read([tmp_path / "no-such-file"])


def test_a_listed_file_may_be_packed_alone(tmp_path: Path) -> None:
    import gzip

    file = tmp_path / "ss.gz"
    file.write_bytes(gzip.compress((FIRST / "ss_-lntp").read_bytes()))
    assert listeners(file) == {FULL: (6, 5, None), QUIET: (3, 8, None)}


def test_no_line_of_a_cut_file_harms(tmp_path: Path) -> None:
    """Each output, cut off at any place, is read as far as it goes."""
    for source in sorted(FIRST.rglob("*")):
        if not source.is_file():
            continue
        content = source.read_bytes()
        for part in range(1, 20):
            file = tmp_path / source.name
            file.write_bytes(content[: len(content) * part // 20])
            with contextlib.suppress(BadInput):
                read([file])


@pytest.mark.parametrize(
    ("path", "passed"),
    [
        ("sys/fs/cgroup/tasks", True),
        ("sys/", True),
        ("proc/sys/net/core/somaxconn", False),
        ("usr/lib/os-release", True),
        ("etc/os-release", False),
        ("etc/", False),
        ("etc/sysctl.conf", True),
        ("sos_commands/networking/nstat_-zas", False),
    ],
)
def test_what_of_a_sosreport_is_passed_over(path: str, passed: bool) -> None:
    assert is_passed_over(path) is passed


def test_a_directory_that_is_passed_over_is_not_opened(tmp_path: Path) -> None:
    for name in ("sys/fs/cgroup/uptime", "sos_commands/host/uptime"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(" 19:23:40 up 25 min,  1 user,  load average: 0.83, 0.73, 0.76\n")
    assert [place.path for place in places(tmp_path, lambda _: None)] == ["sos_commands/host/uptime"]


def test_a_line_that_only_looks_like_sockstat_has_no_numbers(tmp_path: Path) -> None:
    file = tmp_path / "sockstat"
    file.write_text("TCP: inuse 11 orphan 0\nTCP6: inuse 0e 1 tw 2\n")
    own = read([file]).own
    assert own.gauge("sockstat.TCP.inuse") == Fact(11, Source(str(file), 1))
    assert own.gauge("sockstat.TCP6.tw") == Unknown("the kernel has no such counter")
