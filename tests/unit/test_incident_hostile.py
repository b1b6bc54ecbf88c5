"""Files that mean harm, or nothing: one line, nothing executed, nothing written, nothing unbounded."""

from __future__ import annotations

import gzip
import io
import os
import random
import re
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import BadInput
from harness.incident import places, streams
from harness.incident.read import read
from harness.incident.reading import lines
from tests.nobody import is_root
from tests.report import made_evidence

if TYPE_CHECKING:
    from harness.incident.machine import Machine

FILES = Path(__file__).parent / "incident_files"
FIRST = FILES / "full_queue" / "first"
SAMPLES = sorted(file for file in FILES.rglob("*") if file.is_file())
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
ESCAPE = "\x1b]0;owned\x07\x1b[31m\u202e"


def strings(thing: object) -> list[str]:
    """Every text in a picture, names included."""
    if isinstance(thing, str):
        return [thing]
    if isinstance(thing, dict):
        return [text for item in thing.items() for part in item for text in strings(part)]
    return [text for part in thing for text in strings(part)] if isinstance(thing, list) else []


def assert_harmless(machine: Machine) -> None:
    found = strings(msgspec.json.decode(msgspec.json.encode(machine)))
    assert [text for text in found if CONTROL.search(text)] == []


def read_or_one_line(path: Path) -> Machine | None:
    try:
        machine = read([path])
    except BadInput as error:
        if CONTROL.search(str(error)):
            raise
        return None
    assert_harmless(machine)
    return machine


@given(st.binary(max_size=3000))
def test_garbage_is_one_line(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "garbage")
        file.write_bytes(content)
        read_or_one_line(file)


@pytest.mark.parametrize("seed", range(6))
def test_outputs_with_changed_bytes(tmp_path: Path, seed: int) -> None:
    """Real outputs with bytes drawn, cut out, doubled and replaced by escapes."""
    chance = random.Random(seed)
    for sample in SAMPLES:
        content = bytearray(sample.read_bytes()[:20_000])
        for _ in range(chance.randrange(1, 40)):
            place = chance.randrange(len(content)) if content else 0
            content[place : place + chance.randrange(4)] = chance.choice(
                (
                    b"",
                    b"\0",
                    b"99999999999999999999999",
                    b"-1",
                    b"\n",
                    b"\t",
                    ESCAPE.encode(),
                    b":",
                    b" ",
                    b"\xff\xfe",
                    b"=",
                )
            )
        file = tmp_path / sample.name
        file.write_bytes(content)
        read_or_one_line(file)


HOSTILE_LINES = [
    f'LISTEN 0 128 *:80 *:* users:(("{ESCAPE}<script>",pid=1,fd=2))',
    f"ESTAB 0 0 {ESCAPE}:80 10.0.0.1:80",
    "LISTEN 0 128 *:99999 *:*",
    "LISTEN 99999999999999999999999 99999999999999999999 *:80 *:*",
    f"tcp 0 0 {ESCAPE}:80 0.0.0.0:* LISTEN 1/{ESCAPE}",
    f"net.ipv4.tcp_mem = {ESCAPE}",
    f"[    1.000000] TCP: request_sock_TCP: Possible SYN flooding on port {ESCAPE}. Sending cookies.",
    "tcp 6 100 ESTABLISHED src=\x1b[31m dst=\x1b[31m sport=1 dport=2 src=\x1b[2J dst=\x1b[2J sport=x dport=9",
    f'node_uname_info{{release="{ESCAPE}",version="{ESCAPE}"}} 1',
    "node_netstat_TcpExt_ListenDrops NaN",
    "node_netstat_TcpExt_ListenDrops 1e400",
    f"Linux host 6.1{ESCAPE} #1 SMP{ESCAPE} x86_64",
    f'PRETTY_NAME="{ESCAPE}"',
    f"Features for eth0{ESCAPE}:",
    "ip netns exec ../../etc ss -lnt",
    f"$ ss -lnt | grep {ESCAPE}",
    "TcpExt: SyncookiesSent \x1b[31m",
    "Sun Jun 99 99:99:99 CST 2020",
    "  0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 99999999999999999999999999 1",
]


@pytest.mark.parametrize("line", HOSTILE_LINES)
def test_no_escape_and_no_markup_comes_through_as_such(tmp_path: Path, line: str) -> None:
    file = tmp_path / "typed"
    file.write_text(f"{line}\n\ttimer:(on,{ESCAPE},9)\nLISTEN 0 128 *:22 *:*\n")
    machine = read_or_one_line(file)
    assert machine is not None
    assert [each.local.port for each in machine.own.listeners][-1:] in ([22], [80])


def test_a_name_of_a_file_with_escapes(tmp_path: Path) -> None:
    place = tmp_path / ESCAPE
    place.mkdir()
    (place / "ss").write_bytes((FIRST / "ss_-lntp").read_bytes())
    machine = read_or_one_line(tmp_path)
    assert machine is not None
    assert len(machine.own.listeners) == 2


def member(
    name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", link: str = ""
) -> tuple[tarfile.TarInfo, io.BytesIO]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    return info, io.BytesIO(content)


def test_members_with_paths_links_and_devices_touch_nothing(tmp_path: Path) -> None:
    outputs = (FIRST / "ss_-lntp").read_bytes()
    secret = tmp_path / "secret"
    secret.write_text("LISTEN 0 128 *:31337 *:*\n")
    archive = tmp_path / "sosreport.tar"
    with tarfile.open(archive, "w") as tar:
        tar.addfile(*member("../../../escaped/ss", content=outputs))
        tar.addfile(*member(f"{tmp_path}/absolute", content=outputs))
        tar.addfile(*member("sosreport/link", tarfile.SYMTYPE, link=str(secret)))
        tar.addfile(*member("sosreport/hard", tarfile.LNKTYPE, link=str(secret)))
        tar.addfile(*member("sosreport/null", tarfile.CHRTYPE))
        tar.addfile(*member("sosreport/pipe", tarfile.FIFOTYPE))
    machine = read([archive])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret", "sosreport.tar"]
    assert {each.local.port for each in machine.own.listeners} == {14001, 14002}
    assert not (tmp_path.parent / "escaped").exists()


def test_links_and_pipes_of_a_directory_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "ss").write_bytes((FIRST / "ss_-lntp").read_bytes())
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "outside").symlink_to("/proc/net/tcp")
    os.mkfifo(tmp_path / "pipe")
    assert {file.source.file for file in read([tmp_path]).files} == {str(tmp_path / "ss")}


def test_a_pipe_that_is_named_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInput, match="neither a file nor a directory"):
        read([tmp_path / "pipe"])
    with pytest.raises(BadInput, match="cannot be read"):
        read([Path("a\0b")])


@pytest.fixture
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is allowed in mebibytes is allowed in kibibytes, so that a bomb is quickly made."""
    monkeypatch.setattr(streams, "SUSPECT", 64 << 10)
    monkeypatch.setattr(streams, "TIMES", 10)
    monkeypatch.setattr(lines, "MOST", 1 << 20)


@pytest.mark.usefixtures("small_bounds")
@pytest.mark.parametrize("begin", [b"", b"net.core.somaxconn = 128\n"])
def test_bombs_are_one_line(tmp_path: Path, begin: bytes) -> None:
    content = begin + b"\n" * (30 << 20)
    alone, tar, packed = tmp_path / "x.gz", tmp_path / "x.tar.gz", tmp_path / "x.zip"
    alone.write_bytes(gzip.compress(content))
    with tarfile.open(tar, "w:gz") as archive:
        archive.addfile(*member("sysctl_-a", content=content))
        archive.addfile(*member("ss", content=b"LISTEN 0 128 *:80 *:*\n"))
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive_of_zip:
        archive_of_zip.writestr("sysctl_-a", content)
    for file in (alone, tar, packed):
        try:
            told = list(read([file]).notices)
        except BadInput as error:
            told = [str(error)]
        unread = "nothing in it that we read" if not begin and file != tar else "unpacks to more than"
        assert [line for line in told if unread in line], file.name


@pytest.mark.usefixtures("small_bounds")
def test_a_member_that_is_sparse_or_endless_is_not_read_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "sysctl_-a"
    with file.open("wb") as sparse:
        sparse.write(b"net.core.somaxconn = 128\n" * 5000)
        sparse.truncate(1 << 40)
    assert read([file]).sysctl("net.core.somaxconn").value == "128"  # type: ignore[union-attr]


@pytest.mark.parametrize("cut", [10, 300, 1000, 3000])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_an_archive_that_is_cut_off(tmp_path: Path, mode: str, cut: int) -> None:
    whole = tmp_path / "whole"
    with tarfile.open(whole, mode) as archive:  # type: ignore[call-overload]
        for number in range(5):
            archive.addfile(
                *member(f"{number}/ss", content=(FIRST / "ss_-lntp").read_bytes() + os.urandom(3000).hex().encode())
            )
    file = tmp_path / "cut"
    file.write_bytes(whole.read_bytes()[:-cut])
    read_or_one_line(file)


@pytest.mark.parametrize(
    "content",
    [
        "{" * 100_000,
        '{"kernel": ' + "[" * 100_000,
        '{"kernel": {"TcpExtListenDrops": "many"}}',
        '{"kernel": {"TcpExtListenDrops": 1e999}}',
        '{"program": "harness snapshot"}',
        '{"program": "harness snapshot", "schema": 99}',
        '{"kernel": 5}',
    ],
)
def test_json_that_is_nobodys(tmp_path: Path, content: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(BadInput, match=r"x\.json: nothing in it that we read"):
        read([file])


def test_a_capture_that_is_cut_off_or_garbage(tmp_path: Path) -> None:
    for magic in (b"\xd4\xc3\xb2\xa1\x02\0\x04\0" + b"\0" * 8 + b"\xff\xff\0\0\x01\0\0\0", b"\x0a\x0d\x0d\x0a"):
        for garbage in (b"", b"\xff" * 100, bytes(range(256))):
            file = tmp_path / "x.pcap"
            file.write_bytes(magic + garbage)
            machine = read([file])
            assert_harmless(machine)
            assert machine.captures[0].segments == 0


@pytest.mark.parametrize("kind", [b"\x0a\x0d\x0d\x0a", b"\x01\0\0\0", b"\x06\0\0\0"])
def test_a_capture_takes_no_more_memory_than_it_has(tmp_path: Path, kind: bytes) -> None:
    """What a block's length said was taken at once: 4 GB."""
    import tracemalloc

    file = tmp_path / "x.pcapng"
    content = bytearray(made_evidence.dropped_ack())
    place = next(at for at in range(0, len(content), 4) if content[at:].startswith(kind)) + 4
    content[place : place + 4] = b"\xfc\xff\xff\x3f"
    file.write_bytes(content)
    read([file])
    tracemalloc.start()
    read_or_one_line(file)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 100 << 20


def test_what_is_remembered_of_a_capture_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each four-tuple the last packet, to know the same one at a second interface: not of all there ever were."""
    from harness.incident.reading import packets
    from harness.observe.segments import parse
    from harness.traffic.frames import segment

    monkeypatch.setattr(packets, "MOST_REMEMBERED", 10)
    attempting = packets.Attempting()
    for number in range(100):
        frame = segment(
            family=2, macs=("02:00:00:00:00:01", "02:00:00:00:00:02"), addresses=("10.0.0.1", "10.0.0.2"),
            ports=(1024 + number, 80), flags="S", seq=1,
        )  # fmt: skip
        for _ in range(2):
            seen = parse(frame, ethernet=True, time=number / 1000, direction="", interface="")
            assert seen is not None
            attempting.take(seen)
    assert len(attempting.last) == 10
    ((attempts,), left_out) = attempting.result()
    assert (attempts.tried, attempts.repeated, left_out) == (100, 0, 0)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
@pytest.mark.parametrize("where", [0.3, 0.6, 0.9])
def test_an_archive_that_is_damaged_is_read_as_far_as_it_goes(tmp_path: Path, mode: str, where: float) -> None:
    """What is damaged came up while a member was read, as a traceback."""
    archive = tmp_path / "outputs"
    with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]
        for number in range(9):
            tar.addfile(*member(f"{number}/ss_-lntp", content=(FIRST / "ss_-lntp").read_bytes()))
            tar.addfile(*member(f"{number}/noise", content=random.Random(number).randbytes(70_000)))
    content = archive.read_bytes()
    place = int(len(content) * where)
    for spoilt in (content[:place], content[:place] + bytes(200) + content[place + 200 :]):
        archive.write_bytes(spoilt)
        machine = read_or_one_line(archive)
        if machine is not None and mode != "w":
            assert "outputs: cannot be " in " ".join(machine.notices)


@pytest.mark.skipif(not is_root(), reason="an ordinary user cannot open /proc/kmsg")
def test_what_waits_in_proc_is_not_read() -> None:
    """/proc/kmsg has nothing more until the kernel prints: `harness diagnose /proc` had no end, and took its lines."""
    names = [Path(place.path).name for place in places.places(Path("/proc"), print, bool)]
    assert "kmsg" not in names
    assert "uptime" in names


def test_a_directory_is_read_on_its_own_file_system() -> None:
    """`harness diagnose /` read /proc, /sys and /dev."""
    told: list[str] = []
    found = places.places(Path("/"), told.append, lambda path: path not in ("proc/", "sys/"))
    assert [place.path for place in found if "/" in place.path] == []
    assert told == ["/: /proc is another file system: not read; name it to have it read"]
