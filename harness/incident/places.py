"""Files, directories and archives that a user names, as streams: nothing is unpacked, no link is followed."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from harness.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What an archive may unpack to, in bytes and in members: a large sosreport has some hundred megabytes, 50,000 files.
MOST_BYTES = 2 << 30
MOST_MEMBERS = 200_000
# A file that unpacks to more than this and to so many times its size is made to do so: text shrinks to a twentieth.
SUSPECT, TIMES = 64 << 20, 250


class Stream(Protocol):
    """What can be read."""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes."""


@dataclass(frozen=True)
class Place:
    """A file to read: its name for people, its path below what the user named, when it was written, its bytes."""

    name: str
    path: str
    written: float | None
    stream: BinaryIO


class Bomb(BadInput):
    """An archive that unpacks to more than anybody has a use for."""


class Bounded(io.RawIOBase):
    """A stream that counts what is read of it, and stops at a bomb; `packed` is the size of the file it comes from."""

    def __init__(self, stream: Stream, name: str, packed: int) -> None:
        super().__init__()
        self._stream, self._name, self._packed = stream, name, packed
        self._count = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        piece = self._stream.read(len(buffer))
        self._count += len(piece)
        if self._count > MOST_BYTES or (self._count > SUSPECT and self._count > TIMES * max(1, self._packed)):
            size = self._count >> 20
            raise Bomb(f"{self._name}: unpacks to more than {size} MiB: not read; unpack it, and name the files")
        buffer[: len(piece)] = piece
        return len(piece)


def bounded(stream: Stream, name: str, packed: int) -> BinaryIO:
    """A stream that stops at a bomb."""
    return io.BufferedReader(Bounded(stream, name, packed), 1 << 16)


OPENERS: tuple[tuple[bytes, Callable[[BinaryIO], Stream]], ...] = (
    (b"\x1f\x8b", lambda raw: gzip.GzipFile(fileobj=raw)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\0", lzma.LZMAFile),
)
BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, NotImplementedError)
# Of a sosreport: what is configured rather than so, what belongs to packages, the journal of other machines, and /sys,
# which can be 70,000 files.
PASSED_OVER = re.compile(
    r"/(?:usr|lib|sos_reports|sos_logs|sos_strings|run/systemd)/|(?<!/proc)/sys/|/etc/(?!os-release$|$)"
)
# Regular files of proc(5) and of tracefs that wait for what comes next, take it from others, or have no end.
ENDLESS = {"kmsg", "kcore", "trace_pipe"}
ZSTANDARD = b"\x28\xb5\x2f\xfd"


def is_passed_over(path: str) -> bool:
    """Whether a file or, with a slash at its end, a directory of a sosreport has nothing for us."""
    return PASSED_OVER.search(f"/{path}") is not None


def places(
    named: Path, notice: Callable[[str], None], passed_over: Callable[[str], bool] = is_passed_over
) -> Iterator[Place]:
    """Every file in what the user named. BadInput if there is no such thing, or it is nothing to read from.

    `passed_over` says of a directory below it, by its path with a slash at the end, whether not to look into it.
    """
    try:
        mode = named.stat().st_mode
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"{named}: cannot be read: {why}") from None
    if stat.S_ISDIR(mode):
        yield from _directory(named, notice, passed_over)
    elif stat.S_ISREG(mode):
        try:
            yield from _file(named, str(named), named.name, notice)
        except OSError as error:
            raise BadInput(f"{named}: cannot be read: {error.strerror or error}") from None
    else:
        raise BadInput(f"{named}: neither a file nor a directory; copy what it gives into a file, and name that")


def _directory(root: Path, notice: Callable[[str], None], passed_over: Callable[[str], bool]) -> Iterator[Place]:
    """The regular files below a directory, in the order of their names; no other file system, as /proc is below /."""
    count, device = 0, root.stat().st_dev

    def unread(error: OSError) -> None:
        notice(f"{error.filename}: cannot be read: {error.strerror or error}")

    for directory, subdirectories, names in os.walk(root, onerror=unread):
        below = Path(directory).relative_to(root)
        wanted = sorted(name for name in subdirectories if not passed_over((below / name).as_posix() + "/"))
        subdirectories[:] = [name for name in wanted if _device(Path(directory, name)) == device]
        if other := [name for name in wanted if name not in subdirectories]:
            notice(f"{root}: {Path(directory, other[0])} is another file system: not read; name it to have it read")
        for name in sorted(set(names) - ENDLESS):
            path = Path(directory, name)
            count += 1
            if count > MOST_MEMBERS:
                notice(f"{root}: more than {MOST_MEMBERS} files; the others are not read")
                return
            try:
                if stat.S_ISREG(path.lstat().st_mode):
                    yield from _file(path, str(path), path.relative_to(root).as_posix(), notice)
            except OSError as error:
                notice(f"{path}: cannot be read: {error.strerror or error}")


def _device(directory: Path) -> int | None:
    """The file system that a directory is on; None if it is gone."""
    try:
        return directory.lstat().st_dev
    except OSError:
        return None


def _file(path: Path, name: str, below: str, notice: Callable[[str], None]) -> Iterator[Place]:
    """A file, or what is in it if it is an archive."""
    with path.open("rb") as raw:
        status = os.fstat(raw.fileno())
        head = raw.read(512)
        raw.seek(0)
        yield from _opened(raw, head, Place(name, below, status.st_mtime, raw), status.st_size, notice)


def _opened(raw: BinaryIO, head: bytes, place: Place, size: int, notice: Callable[[str], None]) -> Iterator[Place]:
    opener = next((opener for magic, opener in OPENERS if head.startswith(magic)), None)
    if head.startswith(b"PK\x03\x04"):
        yield from _zip(raw, place, notice)
    elif head.startswith(ZSTANDARD):
        zstandard = find_zstandard()
        if zstandard is None:
            lacks = "this Python has no compression.zstd, and backports.zstd is not installed"
            notice(f"{place.name}: packed with zstd, and {lacks}: unpack it first (zstd -d)")
        else:
            yield from _unpacked(zstandard.ZstdFile, raw, place, size, notice, broken=(*BROKEN, zstandard.ZstdError))
    elif opener:
        yield from _unpacked(opener, raw, place, size, notice)
    elif head[257:262] == b"ustar":
        yield from _tar(raw, place, notice)
    else:
        yield place


def _unpacked(
    opener: Callable[[BinaryIO], Stream],
    raw: BinaryIO,
    place: Place,
    size: int,
    notice: Callable[[str], None],
    *,
    broken: tuple[type[Exception], ...] = BROKEN,
) -> Iterator[Place]:
    """A file that is packed: alone, or a tar."""
    try:
        is_tar = opener(raw).read(512)[257:262] == b"ustar"
        raw.seek(0)
        unpacked = bounded(opener(raw), place.name, size)
        if is_tar:
            yield from _tar(unpacked, place, notice)
        else:
            yield Place(place.name, place.path, place.written, unpacked)
    except broken as error:
        notice(f"{place.name}: cannot be unpacked to its end: {error}")


def unreadable() -> tuple[type[Exception], ...]:
    """What the stream of a place raises while it is read, where what packs it is damaged."""
    zstandard = find_zstandard()
    return (*BROKEN, *((zstandard.ZstdError,) if zstandard else ()))


def broken() -> tuple[type[Exception], ...]:
    """What reading a place raises where it is damaged, or not what it says that it is."""
    return (*unreadable(), RuntimeError, ValueError)


def find_zstandard() -> Any:
    """What unpacks zstd: in the standard library since 3.14, before a backport; None where there is neither."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def _tar(raw: BinaryIO, place: Place, notice: Callable[[str], None]) -> Iterator[Place]:
    """The regular members of a tar, one after the other, as the stream has them."""
    try:
        with tarfile.open(fileobj=raw, mode="r|") as archive:
            for count, member in enumerate(archive):
                if count > MOST_MEMBERS:
                    notice(f"{place.name}: more than {MOST_MEMBERS} members; the others are not read")
                    return
                stream = archive.extractfile(member) if member.isreg() else None
                if stream:
                    yield Place(f"{place.name}!{member.name}", _below(member.name), float(member.mtime), stream)  # type: ignore[arg-type]
                # tarfile keeps a list of all members, which a hostile archive makes long.
                archive.members = []  # type: ignore[attr-defined]
        while raw.read(1 << 16):  # what packs it has a sum of all of it at its end
            pass
    except BROKEN as error:
        notice(f"{place.name}: cannot be read to its end: {error}")


def _zip(raw: BinaryIO, place: Place, notice: Callable[[str], None]) -> Iterator[Place]:
    try:
        with zipfile.ZipFile(raw) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            for member in members[:MOST_MEMBERS]:
                with archive.open(member) as stream:
                    unpacked = bounded(stream, place.name, member.compress_size)
                    name = f"{place.name}!{member.filename}"
                    yield Place(name, _below(member.filename), _time_of(member), unpacked)
    except (*BROKEN, RuntimeError, ValueError) as error:
        notice(f"{place.name}: cannot be read to its end: {error}")


def _time_of(member: zipfile.ZipInfo) -> float | None:
    """When a member of a zip was written, taken for UTC: only differences matter. 1980 begins what has no time."""
    try:
        written = datetime(*member.date_time, tzinfo=UTC)
    except ValueError:
        return None
    return written.timestamp() if member.date_time > zipfile.ZipInfo().date_time else None


def _below(name: str) -> str:
    """A member's path below the directory that a sosreport packs itself into."""
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return "/".join(parts[1:] if len(parts) > 1 and parts[0].startswith("sosreport") else parts)
