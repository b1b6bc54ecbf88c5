"""What is packed within what is packed, and what is damaged: read as far as it goes, within the bounds of its file."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.incident import places, streams
from harness.incident.facts import Fact
from harness.incident.read import read
from harness.incident.streams import find_zstandard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.incident.machine import Machine

FIRST = Path(__file__).parent / "incident_files" / "full_queue" / "first"
LISTS = (FIRST / "ss_-lntp").read_bytes()
SETTINGS = b"net.core.somaxconn = 8\n"
# Long enough that more than its head is read, and of numbers, which do not shrink to nothing.
LONG = b"".join(b"net.ipv4.conf.a%d.tag = %d\n" % (number, number**3) for number in range(30_000))
PACKERS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
if ZSTANDARD := find_zstandard():
    PACKERS["zst"] = ZSTANDARD.compress


def tar_of(members: Mapping[str, bytes], mode: str = "w") -> bytes:
    """An archive as bytes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def tgz_of(members: Mapping[str, bytes]) -> bytes:
    return tar_of(members, "w:gz")


def zip_of(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


ARCHIVERS = [tar_of, tgz_of, zip_of]


def seen(machine: Machine) -> tuple[list[int], str | None]:
    """The ports that somebody listens on, and a setting."""
    setting = machine.sysctl("net.core.somaxconn")
    return [each.local.port for each in machine.own.listeners], setting.value if isinstance(setting, Fact) else None


@pytest.mark.parametrize("ending", PACKERS)
def test_a_member_that_is_packed_is_read_as_a_packed_file_of_a_directory_is(tmp_path: Path, ending: str) -> None:
    """A file named sysctl_-a.gz in a sosreport was passed over in the archive, and read in its directory."""
    pack = PACKERS[ending]
    members = {f"sos_commands/ss_-lntp.{ending}": pack(LISTS), f"sos_commands/sysctl_-a.{ending}": pack(SETTINGS)}
    for name, content in members.items():
        file = tmp_path / "report" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    assert seen(read([tmp_path / "report"])) == ([14001, 14002], "8")
    for number, archive in enumerate(ARCHIVERS):
        file = tmp_path / str(number)
        file.write_bytes(archive(members))
        machine = read([file])
        assert (seen(machine), machine.notices) == (([14001, 14002], "8"), ()), archive.__name__


def test_a_packed_file_is_of_the_command_that_its_name_says(tmp_path: Path) -> None:
    """`nstat -az` prints the counters and `nstat` their increments: by the ending the name said neither."""
    for name, said in (("nstat_-az.gz", ()), ("nstat.gz", ("increments",))):
        file = tmp_path / name
        file.write_bytes(gzip.compress((FIRST / "nstat_-az").read_bytes()))
        (place,) = places.places(file, print)
        assert place.path == name.removesuffix(".gz")
        assert len(read([file]).own.counters) == 1, said


@pytest.mark.parametrize("inner", ARCHIVERS)
@pytest.mark.parametrize("outer", ARCHIVERS)
def test_an_archive_in_an_archive_is_read_and_a_further_one_is_named(
    tmp_path: Path, inner: Callable[..., bytes], outer: Callable[..., bytes]
) -> None:
    within = inner({"ss_-lntp": LISTS, "sysctl_-a.gz": gzip.compress(SETTINGS)})
    file = tmp_path / "case"
    file.write_bytes(outer({"web1/report": within}))
    machine = read([file])
    assert (seen(machine), machine.notices) == (([14001, 14002], "8"), ())
    assert machine.own.listeners[0].looks[0].source.file == f"{file}!web1/report!ss_-lntp"
    file.write_bytes(outer({"sysctl_-a": SETTINGS, "all": outer({"report": within})}))
    machine = read([file])
    assert seen(machine) == ([], "8")
    assert machine.notices == (
        f"{file}!all!report: an archive in an archive in an archive: not read; unpack it, and name the files",
    )


@pytest.mark.parametrize("ending", PACKERS)
def test_what_stands_before_a_cut_is_kept(tmp_path: Path, ending: str) -> None:
    """A log that is packed while it is copied has no end: of less than 64 KiB nothing was read."""
    file = tmp_path / f"sysctl_-a.{ending}"
    packed = PACKERS[ending](SETTINGS + LONG)
    # What is short is one block of bzip2 or zstd, and nothing of a block comes without its end.
    short = [] if ending in ("bz2", "zst") else [PACKERS[ending](SETTINGS + LONG[:3000])[:-4]]
    for content in (packed[: len(packed) * 9 // 10], *short):
        file.write_bytes(content)
        machine = read([file])
        assert seen(machine) == ([], "8")
        (notice,) = machine.notices
        assert notice.startswith(f"{file}: cannot be read to its end: ")


def test_what_stands_before_a_wrong_sum_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "sysctl_-a.gz"
    packed = bytearray(gzip.compress(SETTINGS))
    packed[-8] ^= 1
    file.write_bytes(packed)
    machine = read([file])
    assert seen(machine) == ([], "8")
    (notice,) = machine.notices
    assert "CRC check failed" in notice


@pytest.mark.parametrize("pack", [bytes, PACKERS["gz"]])
def test_what_stands_before_a_cut_in_a_member_is_kept(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """One line, of the archive: what it is packed with, and each member, had a line of its own."""
    file = tmp_path / "report.tgz"
    packed = tgz_of({"ss_-lntp": LISTS, "sysctl_-a": pack(SETTINGS + LONG), "more": LONG})
    file.write_bytes(packed[: len(packed) // 4])
    machine = read([file])
    assert seen(machine) == ([14001, 14002], "8")
    (notice,) = machine.notices
    assert notice.startswith(f"{file}: cannot be read to its end: ")


def test_damage_to_a_member_of_a_zip_is_none_to_the_others(tmp_path: Path) -> None:
    file = tmp_path / "report.zip"
    content = bytearray(zip_of({"a": LONG, "ss_-lntp": LISTS, "sysctl_-a": SETTINGS}))
    content[2000:2100] = bytes(100)
    file.write_bytes(content)
    machine = read([file])
    assert seen(machine) == ([14001, 14002], "8")
    (notice,) = machine.notices
    assert notice.startswith(f"{file}!a: cannot be read to its end: ")


@pytest.mark.parametrize("archive", ARCHIVERS)
def test_members_are_bounded_with_those_of_inner_archives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: Callable[..., bytes]
) -> None:
    """Of a zip the others were left out without a word."""
    monkeypatch.setattr(streams, "MOST_MEMBERS", 8)
    file = tmp_path / "many"
    several = archive({str(number): b"x" for number in range(4)})
    file.write_bytes(archive({"sysctl_-a": SETTINGS, "one": several, "two": several}))
    machine = read([file])
    assert seen(machine) == ([], "8")
    assert machine.notices[:1] == (f"{file}!two: more than 8 members; the others are not read",)


@pytest.mark.parametrize("archive", ARCHIVERS)
def test_a_bomb_within_an_archive_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: Callable[..., bytes]
) -> None:
    monkeypatch.setattr(streams, "SUSPECT", 256 << 10)
    file = tmp_path / "case"
    bomb = gzip.compress(SETTINGS + b"\n" * (1 << 20))
    file.write_bytes(archive({"sysctl_-a.gz": bomb, "ss_-lntp": LISTS}))
    machine = read([file])
    assert seen(machine) == ([14001, 14002], "8")
    (notice,) = machine.notices
    assert notice.startswith(f"{file}!sysctl_-a.gz: unpacks to more than ")


def test_many_small_bombs_are_one_and_no_harm_to_what_lies_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each member of a zip had the bound of the whole: two thousand of them are four terabytes."""
    monkeypatch.setattr(streams, "MOST_BYTES", 1 << 20)
    content = zip_of({f"{number}/sysctl_-a": SETTINGS + LONG for number in range(9)})
    for name in ("a.zip", "b.zip"):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "ss_-lntp").write_bytes(LISTS)
    machine = read([tmp_path])
    assert seen(machine) == ([14001, 14002], "8")
    assert machine.notices == tuple(
        f"{tmp_path / name}: unpacks to more than 1 MiB: not read further; unpack it, and name the files"
        for name in ("a.zip", "b.zip")
    )
    assert len([place.stream.read() for place in places.places(tmp_path / "a.zip", print)]) < 5


def test_a_file_of_holes_in_an_archive_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse member of a tar of 2 KB has any size."""
    monkeypatch.setattr(streams, "SUSPECT", 1 << 20)
    monkeypatch.setattr(streams, "TIMES", 10)
    file, content = tmp_path / "holes.tar", SETTINGS + LONG[:100_000]
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("sysctl_-a")
        info.size = len(content)
        holes = {"GNU.sparse.map": f"0,{len(content)},1099511627776,0", "GNU.sparse.size": "1099511627776"}
        info.pax_headers = holes
        archive.addfile(info, io.BytesIO(content))
    machine = read([file])
    assert seen(machine) == ([], "8")
    (notice,) = machine.notices
    assert notice.startswith(f"{file}: unpacks to more than ")


def test_a_large_zip_in_another_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zip's table is at its end: the whole of it is in memory."""
    monkeypatch.setattr(places, "MOST_OF_AN_INNER_ZIP", 1 << 16)
    file = tmp_path / "case.tar"
    file.write_bytes(tar_of({"report.zip": zip_of({"sysctl_-a": LONG}), "ss_-lntp": LISTS}))
    machine = read([file])
    assert seen(machine)[0] == [14001, 14002]
    assert machine.notices == (f"{file}!report.zip: a zip of more than 0 MiB in another: not read; unpack it",)


def test_what_is_passed_over_in_an_archive_is_not_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "sosreport.tar"
    file.write_bytes(tar_of({"sosreport-web1/usr/x.gz": b"\x1f\x8b damaged", "sosreport-web1/ss_-lntp": LISTS}))
    machine = read([file])
    assert (seen(machine)[0], machine.notices) == ([14001, 14002], ())
