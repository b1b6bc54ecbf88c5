"""What must not change a diagnosis: who packed the files, in which order, under which names, on which terminal.

Each set of real files is changed in each way, and has the same findings: name, certainty, place, and their order. The
sets were taken in a lab: see test_incident_read.py; `short_backlog` of a server whose clients are far away, `gateway`
of one that has no port outside, both over IPv6.
"""

from __future__ import annotations

import errno
import gzip
import os
import random
import re
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from harness.diagnosis.diagnose import diagnose
from harness.diagnosis.findings import Certainty
from harness.incident.draft import Draft
from harness.incident.facts import Fact, Source, Unknown
from harness.incident.machine import Process
from harness.incident.read import read
from harness.incident.reading import table
from harness.incident.sockets import Direction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.incident.machine import Machine

FILES = Path(__file__).parent / "incident_files"
CERTAIN, LIKELY, POSSIBLE = Certainty
# A whole second, of an even number: a zip keeps no others.
BEGAN, APART = 1_700_000_000, 10


class Said(NamedTuple):
    """A finding, as far as it has to stay."""

    diagnosis: str
    sure: Certainty
    place: str


WRONG = {
    "full_queue": (Said("accept-queue-full", CERTAIN, "10.1.0.2:14001 (python)"),),
    "full_queue/first": (Said("accept-queue-full", CERTAIN, "10.1.0.2:14001 (python)"),),
    "full_queue_client": (Said("connect-unanswered", CERTAIN, "10.1.0.2:14001"),),
    "short_backlog": (
        Said("backlog-too-short", CERTAIN, "[fd00:1::2]:14001 (python)"),
        Said("loss", LIKELY, "the network"),
    ),
    "gateway": (Said("gateway-ports-used-up", LIKELY, "[fd00:2::2]:14001"),),
}


def said(named: Sequence[Path]) -> tuple[Said, ...]:
    return tuple(Said(each.diagnosis, each.sure, each.place.name) for each in diagnose(read(named)).findings)


def files_of(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def at(directory: Path, epoch: float) -> None:
    """Give files their times: those of `second` were taken later."""
    for path in files_of(directory):
        when = epoch + APART * ("second" in path.relative_to(directory).parts)
        os.utime(path, (when, when))


@pytest.fixture(params=WRONG)
def taken(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, tuple[Said, ...]]:
    """A set of files, and what is wrong."""
    copy = tmp_path / "taken"
    shutil.copytree(FILES / request.param, copy)
    at(copy, BEGAN)
    return copy, WRONG[request.param]


def as_taken(taken: Path) -> list[Path]:
    return [taken]


def one_by_one(taken: Path) -> list[Path]:
    return files_of(taken)


def backwards(taken: Path) -> list[Path]:
    return files_of(taken)[::-1]


def in_any_order(taken: Path) -> list[Path]:
    files = files_of(taken)
    random.Random(1).shuffle(files)
    return files


def named_twice(taken: Path) -> list[Path]:
    return [taken, taken]


def tar(taken: Path) -> list[Path]:
    with tarfile.open(taken.with_suffix(".tar.gz"), "w:gz") as archive:
        archive.add(taken, "web1")
    return [taken.with_suffix(".tar.gz")]


def tar_backwards(taken: Path) -> list[Path]:
    with tarfile.open(taken.with_suffix(".tar"), "w") as archive:
        for path in files_of(taken)[::-1]:
            archive.add(path, str(path.relative_to(taken)))
    return [taken.with_suffix(".tar")]


def zipped(taken: Path) -> list[Path]:
    with zipfile.ZipFile(taken.with_suffix(".zip"), "w") as archive:
        for path in files_of(taken):
            archive.write(path, path.relative_to(taken))
    return [taken.with_suffix(".zip")]


def in_the_future(taken: Path) -> list[Path]:
    at(taken, BEGAN + 1e9)
    return [taken]


def long_ago(taken: Path) -> list[Path]:
    at(taken, 10)
    return [taken]


def without_names(taken: Path) -> list[Path]:
    """Names that say nothing, in an order that says nothing either."""
    for number, path in enumerate(files_of(taken)[::-1]):
        path.rename(taken / f"{number:03}")
    return [taken]


def changed(taken: Path, change: Callable[[bytes], bytes]) -> list[Path]:
    """Every file with other bytes, and its time."""
    for path in files_of(taken):
        path.write_bytes(change(path.read_bytes()))
    at(taken, BEGAN)
    return [taken]


def dos(taken: Path) -> list[Path]:
    return changed(taken, lambda content: content.replace(b"\n", b"\r\n"))


def spaces_at_the_end(taken: Path) -> list[Path]:
    return changed(taken, lambda content: content.replace(b"\n", b" \t \n"))


def utf8_with_a_mark(taken: Path) -> list[Path]:
    return changed(taken, lambda content: b"\xef\xbb\xbf" + content)


def utf16(taken: Path) -> list[Path]:
    """As a Windows shell writes what it is told to put in a file."""
    return changed(taken, lambda content: content.decode().encode("utf-16"))


def coloured(taken: Path) -> list[Path]:
    return changed(taken, lambda content: b"\x1b[?2004l\r\x1b[0m" + content.replace(b"\n", b"\x1b[0m\n"))


def beside_copies(taken: Path) -> list[Path]:
    for path in files_of(taken):
        shutil.copy2(path, path.with_name(f"copy_of_{path.name}"))
    return [taken]


def beside_others(taken: Path) -> list[Path]:
    """With files that are nobody's, named one by one as a shell's `*` does."""
    (taken / "app.log").write_text("Dec  3 10:00:00 web1 app[3]: TCP: 3 (estab)\n")
    (taken / "empty").write_text("")
    (taken / "core").write_bytes(bytes(range(256)) * 40)
    return files_of(taken)


PROMPT = "\x1b[?2004h\x1b]0;root@web1: ~\x07\x1b[01;32mroot@web1\x1b[00m:\x1b[01;34m~\x1b[00m# "


def typed(taken: Path) -> str:
    """All of it in one terminal, with the date before each set."""
    lines = []
    for second in (False, True):
        lines += ["$ date", f"Thu Dec  3 10:00:{APART * second:02} UTC 2026"]
        for path in files_of(taken):
            parts = [part for part in path.relative_to(taken).parts if part not in ("first", "second")]
            if ("second" in path.parts) is second and path.name != "date":
                command = f"cat /{'/'.join(parts)}" if parts[0] == "proc" else path.name.replace("_", " ")
                lines += [f"$ {command}", path.read_text().rstrip("\n")]
    return "\n".join(lines) + "\n"


def transcript(taken: Path) -> list[Path]:
    file = taken.with_suffix(".txt")
    file.write_text("".join(line for line in typed(taken).splitlines(keepends=True) if not line.startswith("{")))
    return [file]


def recorded(taken: Path) -> list[Path]:
    """The same by `script`."""
    (file,) = transcript(taken)
    file.write_text(file.read_text().replace("\n$ ", f"\n{PROMPT}").replace("\n", "\r\n"))
    return [file]


WAYS = (
    as_taken, one_by_one, backwards, in_any_order, named_twice, tar, tar_backwards, zipped, in_the_future, long_ago,
    without_names, dos, spaces_at_the_end, utf8_with_a_mark, utf16, coloured, beside_copies, beside_others, transcript,
    recorded,
)  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_same_is_wrong(taken: tuple[Path, tuple[Said, ...]], way: Callable[[Path], list[Path]]) -> None:
    directory, wrong = taken
    assert said(way(directory)) == wrong


HEAD = "State Recv-Q Send-Q Local Address:Port Peer Address:Port\n"
PROC = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
KERNEL = "Linux web1 6.1.0 #1 SMP Debian x86_64 GNU/Linux\n"
SYN_QUEUE = "net.ipv4.tcp_syncookies = 1\nnet.ipv4.tcp_max_syn_backlog = 512\nnet.core.somaxconn = 128\n"
PORTS = "net.ipv4.ip_local_port_range = 32768 33767\n"


def listening(*rows: str) -> str:
    return HEAD + "".join(f"LISTEN {row}\n" for row in rows)


def half_open(local: str) -> str:
    rows = (f"SYN-RECV 0 0 {local} 10.1.0.{client}:3000 timer:(on,1sec,2)\n" for client in range(129))
    return HEAD + "".join(rows)


def in_proc(first: int, before: str = "") -> str:
    """500 connections to 10.0.0.1:80, as /proc/net/tcp has them; of tcp6 with the prefix of IPv4 `before`."""
    ends = f"{before}0200000A:{{:04X}} {before}0100000A:0050"
    rest = "01 00000000:00000000 00:00000000 00000000     0        0 1 1 0000 20 4 30 10 -1"
    return PROC + "".join(f"{n:4}: {ends.format(first + n)} {rest}\n" for n in range(500))


def tracked(count: int) -> str:
    return f"net.netfilter.nf_conntrack_count = {count}\nnet.netfilter.nf_conntrack_max = 2000\n"


def overflowed(count: int) -> str:
    return f"TcpExt: ListenOverflows ListenDrops\nTcpExt: {count} {count}\n"


SILENT = HEAD + "".join(f"ESTAB 0 100 10.0.0.2:8080 10.0.1.{n}:5060 timer:(on,3sec,9)\n" for n in range(60))
MAPPED = "0000000000000000FFFF0000"
TIME_WAIT = "net.ipv4.tcp_max_tw_buckets = 65536\n"
WORKERS = listening("6 5 10.0.0.2:80 0.0.0.0:* ino:1 sk:1", "0 5 10.0.0.2:80 0.0.0.0:* ino:2 sk:2")
TOO_MANY = (Said("time-wait-cap", LIKELY, "tcp_max_tw_buckets"),)
FLOODED = (Said("syn-flood", CERTAIN, "0.0.0.0:80"),)
USED_UP = (Said("ports-used-up", CERTAIN, "10.0.0.1:80"),)
# Files with their times, and what is wrong by them.
SMALL: dict[str, tuple[dict[str, tuple[str, int]], tuple[Said, ...]]] = {
    "a table was full, and is not any more": ({"a": (tracked(2000), 0), "b": (tracked(5), 60)}, ()),
    "a table is full now": (
        {"a": (tracked(5), 0), "b": (tracked(2000), 60)},
        (Said("conntrack-full", LIKELY, "nf_conntrack_max"),),
    ),
    "who listens is in another file": (
        {"a": (SILENT, 0), "b": (listening("0 128 10.0.0.2:8080 0.0.0.0:*"), 0)},
        (Said("silent-peer", POSSIBLE, "10.0.0.2:8080"),),
    ),
    "two halves of the sockets": (
        {"tcp": (in_proc(0x8000), 0), "sysctl": (PORTS, 0), "tcp6": (in_proc(0x8000 + 500, MAPPED), 0)},
        USED_UP,
    ),
    "two halves by other names": (
        {"6": (in_proc(0x8000 + 500, MAPPED), 1), "b": (PORTS, 0), "a": (in_proc(0x8000), 0)},
        USED_UP,
    ),
    # Of one moment: nobody knows whether the queue was emptied since.
    "a look and its copy": (
        {"a": (WORKERS, 0), "b": (WORKERS, 0)},
        (Said("worker-hangs", LIKELY, "10.0.0.2:80"), Said("accept-queue-full", CERTAIN, "10.0.0.2:80")),
    ),
    "two looks": (
        {"a": (WORKERS, 0), "b": (WORKERS, 10)},
        (Said("worker-hangs", CERTAIN, "10.0.0.2:80"), Said("accept-queue-full", CERTAIN, "10.0.0.2:80")),
    ),
    # Marks without limits in one file, limits without marks in the other.
    "workers by netstat -e beside ss": (
        {
            "a": (listening("0 5 10.0.0.2:80 0.0.0.0:*", "6 5 10.0.0.2:80 0.0.0.0:*"), 0),
            "b": (
                "tcp  6  0 10.0.0.2:80  0.0.0.0:*  LISTEN  0  11\ntcp  0  0 10.0.0.2:80  0.0.0.0:*  LISTEN  0  12\n",
                0,
            ),
        },
        (Said("worker-hangs", LIKELY, "10.0.0.2:80"), Said("accept-queue-full", CERTAIN, "10.0.0.2:80")),
    ),
    "IPv4 and IPv6 apart": (
        {
            "a": (listening("0 128 0.0.0.0:80 0.0.0.0:*", "0 128 [::]:80 [::]:*"), 0),
            "b": (half_open("10.0.0.2:80"), 0),
            "c": (SYN_QUEUE + KERNEL, 0),
        },
        FLOODED,
    ),
    "a listener at an address of its own": (
        {
            "a": (listening("0 128 0.0.0.0:80 0.0.0.0:*", "0 128 10.0.0.2:80 0.0.0.0:*"), 0),
            "b": (half_open("10.0.0.2:80"), 0),
            "c": (SYN_QUEUE + KERNEL, 0),
        },
        (Said("syn-flood", CERTAIN, "10.0.0.2:80"),),
    ),
    "a listener that ss calls * and netstat ::": (
        {
            "a": (listening("129 128 *:80 *:*"), 0),
            "b": ("tcp6     129      0 :::80                   :::*                    LISTEN\n", 0),
            "c": (SYN_QUEUE, 0),
        },
        (Said("accept-queue-full", CERTAIN, "[::]:80"),),
    ),
    # An old ss, which calls 0.0.0.0 so: what it shows beside it tells.
    "a listener that ss calls * beside ::": (
        {"a": (listening("129 128 *:22 *:*", "0 128 :::22 :::*"), 0)},
        (Said("accept-queue-full", CERTAIN, "0.0.0.0:22"),),
    ),
    "a listener that ss calls * beside 0.0.0.0": (
        {"a": (listening("0 128 0.0.0.0:22 0.0.0.0:*", "129 128 *:22 *:*"), 0)},
        (Said("accept-queue-full", CERTAIN, "[::]:22"),),
    ),
    "samples of one second": (
        {"a": (overflowed(12), 0), "b": (overflowed(9), 0), "c": (overflowed(40), 10)},
        (Said("accept-queue-full", CERTAIN, "a listener that the files do not show"),),
    ),
    "TIME-WAIT by sockstat": (
        {"a": ("sockets: used 9\nTCP: inuse 5 orphan 3 tw 65536 alloc 9 mem 3\n", 0), "b": (TIME_WAIT, 0)},
        TOO_MANY,
    ),
    "TIME-WAIT by ss -s": (
        {"a": ("Total: 9\nTCP:   65600 (estab 5, closed 65590, orphaned 3, timewait 65536)\n", 0), "b": (TIME_WAIT, 0)},
        TOO_MANY,
    ),
    "a file that is called as its program": (
        {
            "nstat": ("#kernel\nTcpExtListenOverflows              9                  0.0\n", 0),
            "b": ("#kernel\nTcpExtListenOverflows              40                 0.0\n", 10),
        },
        (Said("accept-queue-full", CERTAIN, "a listener that the files do not show"),),
    ),
}


@pytest.mark.parametrize("backwards", [False, True], ids=["", "backwards"])
@pytest.mark.parametrize("name", SMALL)
def test_the_order_of_files_is_nothing(name: str, *, backwards: bool, tmp_path: Path) -> None:
    files, wrong = SMALL[name]
    for file, (content, when) in files.items():
        (tmp_path / file).write_text(content)
        os.utime(tmp_path / file, (BEGAN + when, BEGAN + when))
    named = [tmp_path / file for file in files]
    assert said(named[::-1] if backwards else named) == wrong


SETTINGS = """\
MemTotal:       {number} kB
CONFIG_HZ={number}
$ cat /proc/7/limits
Limit                     Soft Limit           Hard Limit           Units
Max open files            {number}                  {number}                  files
$ ethtool -k eth0
Features for eth0:
rx-checksumming: {state}
{more}$ ss -lntp
LISTEN 0 128 10.0.0.2:80 0.0.0.0:* users:(("nginx",pid=7,fd=6))
"""


def test_the_last_of_two_files_stands_for_every_fact(tmp_path: Path) -> None:
    """Memory, options, limits and offloads were those of the file that was named last, however old it was."""
    older = SETTINGS.format(number=100, state="off", more="")
    newer = SETTINGS.format(number=250, state="on", more="tcp-segmentation-offload: on\n")
    for machine in facts_of(tmp_path, older, newer, apart=60):
        (process,) = machine.processes
        facts = machine.memory["MemTotal"].value, machine.kernel_options["CONFIG_HZ"].value, process.files_soft
        assert facts == (250 * 1024, "250", 250)
        assert machine.own.interfaces[0].offloads == {"rx-checksumming": True, "tcp-segmentation-offload": True}


def test_a_date_holds_for_all_commands_that_follow_and_for_each_once(tmp_path: Path) -> None:
    file = tmp_path / "typed"
    shown = WORKERS.split("\n", 1)[1]
    commands = ("ss -lntm", "ss -lntme", "ss -lntme")
    file.write_text("$ date\nThu Dec  3 10:00:00 UTC 2026\n" + "".join(f"$ {each}\n{HEAD}{shown}" for each in commands))
    (full, _) = read([file]).own.listeners
    assert [look.taken is not None for look in full.looks] == [False, True, True]


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    """A service that is unknown here, and a netstat -s of another language, of which absent counters are not 0."""
    names, german = tmp_path / "names", tmp_path / "german"
    names.write_text(listening("129 128 0.0.0.0:our-service 0.0.0.0:*"))
    german.write_text("Tcp:\n    12 gezielte Verbindungen\n    3 passive\nTcpExt:\n    TCPTimeWaitOverflow: 5\n")
    machine = read([names, german])
    assert machine.own.counter("TcpExt.TCPTimeWaitOverflow") == Fact(5, Source(str(german), 5))
    assert isinstance(machine.own.counter("TcpExt.ListenOverflows"), Unknown)
    assert machine.notices == (
        f"{names}: sockets at port our-service are left out: no such service is known here; take numbers (-n)",
        f"{german}: netstat -s of another language: use LC_ALL=C",
    )


@pytest.mark.parametrize("backwards", [False, True], ids=["", "backwards"])
def test_limits_of_a_process_add_to_what_another_file_has(*, backwards: bool) -> None:
    draft = Draft()
    here = Source("x")
    both = [Process(7, "nginx", here, 1024, 1024, 1024), Process(7, "", here, 1024, 4096)]
    for process in both[::-1] if backwards else both:
        draft.process(process, None)
    assert (draft.processes[7].program, draft.processes[7].files_open) == ("nginx", 1024)


def facts_of(tmp_path: Path, *contents: str, apart: int = 0) -> tuple[Machine, Machine]:
    """What files say that are read in their order, and backwards."""
    named = []
    for number, content in enumerate(contents):
        file = tmp_path / str(number)
        file.write_text(content)
        os.utime(file, (BEGAN + apart * number, BEGAN + apart * number))
        named.append(file)
    return read(named), read(named[::-1])


def test_the_last_fact_stands_and_is_named_last(tmp_path: Path) -> None:
    """How long the machine was up was as the first file said; of a sysctl the line named the wrong one last."""
    files = [f"{up}.00 5.00\nnet.core.somaxconn = {limit}\n" for up, limit in ((100, 128), (160, 4096))]
    for machine in facts_of(tmp_path, *files, apart=60):
        assert machine.uptime == Fact(160.0, Source(str(tmp_path / "1"), 1))
        (line,) = machine.notices
        assert re.findall(r"(\d+) \(", line) == ["128", "4096"]


def test_looks_of_one_second_are_in_one_order(tmp_path: Path) -> None:
    for machine in facts_of(tmp_path, *(listening(f"{row} 10.0.0.2:80 0.0.0.0:*") for row in ("6 5", "0 128"))):
        assert [look.limit for look in machine.own.listeners[0].looks] == [5, 128]


def test_a_command_without_a_namespace_is_of_the_file_s_own(tmp_path: Path) -> None:
    """All that came after `ip netns exec` was of that namespace."""
    file = tmp_path / "typed"
    ours, theirs = (listening(f"0 128 10.0.0.{host}:80 0.0.0.0:*") for host in (1, 2))
    file.write_text(f"$ ip netns exec blue ss -lnt\n{theirs}$ ss -lnt\n{ours}")
    seen = {each.name: [str(one.local) for one in each.listeners] for each in read([file]).namespaces}
    assert seen == {"": ["10.0.0.1:80"], "blue": ["10.0.0.2:80"]}


@pytest.mark.parametrize("begin", ["sudo ip netns exec blue bash", "ip netns exec blue /bin/sh -i"])
@pytest.mark.parametrize("end", ["exit\n", "root@web1 # exit\nexit\n", "[root@web1 ~]# logout\n"])
def test_a_shell_in_a_namespace(tmp_path: Path, begin: str, end: str) -> None:
    """What is typed in it is of that namespace until the shell ends."""
    file = tmp_path / "typed"
    ours, theirs, again = (listening(f"0 128 10.0.0.{host}:80 0.0.0.0:*") for host in (1, 2, 3))
    file.write_text(f"$ {begin}\n# ss -lnt\n{theirs}# ss -lnt\n{again}{end}$ ss -lnt\n{ours}")
    seen = {each.name: [str(one.local) for one in each.listeners] for each in read([file]).namespaces}
    assert seen == {"": ["10.0.0.1:80"], "blue": ["10.0.0.2:80", "10.0.0.3:80"]}


def test_connections_come_in_at_listeners_that_are_not_kept_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "MOST_LISTENERS", 2)
    file = tmp_path / "ss"
    rows = [f"0 128 10.0.0.2:{port} 0.0.0.0:*" for port in (8080, 8081, 8082)]
    file.write_text(listening(*rows) + "ESTAB 0 0 10.0.0.2:8082 10.0.0.9:3000\n")
    (sockets,) = read([file]).own.sockets
    assert [flow.direction for flow in sockets.flows] == [Direction.IN]


@pytest.mark.parametrize(
    "other",
    [
        HEAD + "UNCONN 0 0 *:icmp *:*\n",
        HEAD.removeprefix("State ") + "0 0 rtnl:NetworkManager/1234 *\n",
    ],
)
def test_no_socket_of_tcp_is_left_out_that_is_none(tmp_path: Path, other: str) -> None:
    for machine in facts_of(tmp_path, other, listening("0 128 10.0.0.2:80 0.0.0.0:*")):
        assert [line for line in machine.notices if "left out" in line] == []


def test_a_prompt_that_sets_the_terminal_back(tmp_path: Path) -> None:
    """As `tput sgr0` does: which signs are printed, and how."""
    file = tmp_path / "typed"
    file.write_text(f"root@web1 $\x1b(B\x1b[m ip netns exec blue ss -lnt\n{listening('0 128 10.0.0.2:80 0.0.0.0:*')}")
    assert [each.name for each in read([file]).namespaces] == ["", "blue"]


def test_why_a_file_is_not_read_is_said_once(tmp_path: Path) -> None:
    cut, whole = tmp_path / "cut.gz", tmp_path / "whole"
    cut.write_bytes(gzip.compress(SILENT.encode())[:-8])
    whole.write_text(SILENT)
    (line,) = read([cut, whole]).notices
    assert "cannot be read to its end" in line


@pytest.mark.parametrize("lost", ["file", "directory"])
def test_what_may_not_be_read_is_said_and_all_else_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """A file that another may not read had the whole directory refused; a directory was passed over without a word."""
    (tmp_path / "there").write_text(SILENT)
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text(SILENT)

    def refuse(of: Callable[..., Any]) -> Callable[..., Any]:
        def asked(path: Any, *words: Any, **named: Any) -> Any:
            if Path(path) == tmp_path / lost:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return of(path, *words, **named)

        return asked

    monkeypatch.setattr(Path, "open", refuse(Path.open))
    monkeypatch.setattr(os, "scandir", refuse(os.scandir))
    machine = read([tmp_path])
    assert machine.notices == (f"{tmp_path / lost}: cannot be read: Permission denied",)
    assert str(tmp_path / "there") in {each.source.file for each in machine.files}
