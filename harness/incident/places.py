"""Files, directories and archives that a user names, as streams: nothing is unpacked, no link is followed."""

from __future__ import annotations

import io
import os
import re
import stat
import tarfile
import zipfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from harness.errors import BadInput
from harness.incident import streams
from harness.incident.streams import Bomb, Bounded, NoZstandard, Taken, broken, joined, unpacker_of, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.incident.streams import Stream

HEAD = 512
# Of a sosreport: what is configured rather than so, what belongs to packages, the journal of other machines, and /sys,
# which can be 70,000 files.
PASSED_OVER = re.compile(
    r"/(?:usr|lib|sos_reports|sos_logs|sos_strings|run/systemd)/|(?<!/proc)/sys/|/etc/(?!os-release$|$)"
)
# Regular files of proc(5) and of tracefs that wait for what comes next, take it from others, or have no end.
ENDLESS = {"kmsg", "kcore", "trace_pipe"}
# What a file that is packed has at the end of its name, and what is in it has not.
SUFFIX = re.compile(r"\.(?:gz|bz2|xz|zst)$")
# A zip has its table at its end: within another archive it is held in memory until that has come.
MOST_OF_AN_INNER_ZIP = 256 << 20


@dataclass(frozen=True)
class Place:
    """A file to read.

    Its name for people, its path below what the user named, without the ending of what packs it, when it was written,
    its bytes, and the names of the members that it is, from the outermost archive in.
    """

    name: str
    path: str
    written: float | None
    stream: BinaryIO
    members: tuple[str, ...] = ()


def is_passed_over(path: str) -> bool:
    """Whether a file or, with a slash at its end, a directory of a sosreport has nothing for us."""
    return PASSED_OVER.search(f"/{path}") is not None


def places(
    named: Path,
    notice: Callable[[str], None],
    passed_over: Callable[[str], bool] = is_passed_over,
    *,
    begins: bool = True,
) -> Iterator[Place]:
    """Every file in what the user named, in its archives, and in archives of these.

    `passed_over` says of a directory below it, by its path with a slash at the end, and of a member of an archive,
    whether not to look into it. With `begins` a file that is damaged or unpacks to too much is read as far as it goes,
    and `notice` has a line on it; without, reading it raises `broken()` or Bomb. BadInput if there is no such thing, or
    it is nothing to read from.
    """
    try:
        mode = named.stat().st_mode
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"{named}: cannot be read: {why}") from None
    if stat.S_ISDIR(mode):
        yield from _directory(named, notice, passed_over, begins=begins)
    elif stat.S_ISREG(mode):
        try:
            yield from _file(named, named.name, notice, passed_over, begins=begins)
        except OSError as error:
            raise BadInput(f"{named}: cannot be read: {error.strerror or error}") from None
    else:
        raise BadInput(f"{named}: neither a file nor a directory; copy what it gives into a file, and name that")


def _directory(
    root: Path, notice: Callable[[str], None], passed_over: Callable[[str], bool], *, begins: bool
) -> Iterator[Place]:
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
            if count > streams.MOST_MEMBERS:
                notice(f"{root}: more than {streams.MOST_MEMBERS} files; the others are not read")
                return
            try:
                if stat.S_ISREG(path.lstat().st_mode):
                    yield from _file(path, path.relative_to(root).as_posix(), notice, passed_over, begins=begins)
            except OSError as error:
                notice(f"{path}: cannot be read: {error.strerror or error}")


def _device(directory: Path) -> int | None:
    """The file system that a directory is on; None if it is gone."""
    try:
        return directory.lstat().st_dev
    except OSError:
        return None


def _file(
    path: Path, below: str, notice: Callable[[str], None], passed_over: Callable[[str], bool], *, begins: bool
) -> Iterator[Place]:
    """A file, or what is in it if it is packed or an archive."""
    with path.open("rb") as raw:
        status = os.fstat(raw.fileno())
        head = raw.read(HEAD)
        raw.seek(0)
        place = Place(str(path), below, status.st_mtime, raw)
        yield from Opening(notice, passed_over, begins, Taken(str(path))).opened(raw, head, place, status.st_size)


@dataclass(frozen=True)
class Member:
    """A member of an archive: its name in it, when it was written, its size as it is packed."""

    name: str
    written: float | None
    packed: int


@dataclass(frozen=True)
class Opening:
    """How a file on the disk is opened, and what was taken of it: what is packed in it shares the bounds."""

    notice: Callable[[str], None]
    passed_over: Callable[[str], bool]
    begins: bool
    taken: Taken
    spoilt: list[str] = field(default_factory=list)

    def opened(self, raw: BinaryIO, head: bytes, place: Place, size: int) -> Iterator[Place]:
        """What is in a stream that begins so; `size` is what it has of its file."""
        try:
            unpacker = unpacker_of(head)
        except NoZstandard:
            lacks = "this Python has no compression.zstd, and backports.zstd is not installed"
            self.notice(f"{place.name}: packed with zstd, and {lacks}: unpack it first (zstd -d)")
            return
        if unpacker:
            yield from self._unpacked(unpacker, raw, place, size)
        else:
            yield from self._archive(raw, head, place, size)

    def _unpacked(
        self, unpacker: Callable[[BinaryIO], Stream], raw: BinaryIO, place: Place, size: int
    ) -> Iterator[Place]:
        """A file that is packed: alone, or an archive."""
        try:
            unpacked = self._bounded(unpacker(raw), place.name, size, self.taken, place.name)
            head = unpacked.read(HEAD)
            stream = joined(head, unpacked)
            inner = Place(place.name, SUFFIX.sub("", place.path), place.written, stream, place.members)
            yield from self._archive(stream, head, inner, size)
        except unreadable() as error:
            self._spoilt(place.name, error)

    def _bounded(self, stream: Stream, name: str, packed: int, taken: Taken | None, spoilt: str) -> BinaryIO:
        """A stream that stops at a bomb, and where it is damaged."""
        told = (lambda error: self._spoilt(spoilt, error)) if self.begins else None
        return io.BufferedReader(Bounded(stream, name, packed, taken, told), 1 << 16)

    def _archive(self, raw: BinaryIO, head: bytes, place: Place, size: int) -> Iterator[Place]:
        """The members of an archive, or the file itself."""
        if not _is_archive(head):
            yield place
        elif len(place.members) > 1:
            self.notice(
                f"{place.name}: an archive in an archive in an archive: not read; unpack it, and name the files"
            )
        elif _is_zip(head):
            yield from self._zip(raw, place)
        else:
            yield from self._tar(raw, place, size)

    def _tar(self, raw: BinaryIO, place: Place, size: int) -> Iterator[Place]:
        """The members of a tar, one after the other, as the stream has them."""
        try:
            with tarfile.open(fileobj=raw, mode="r|") as archive:
                for member in archive:
                    if self._is_one_too_many(place):
                        return
                    stream = archive.extractfile(member) if member.isreg() else None
                    if stream:
                        # What is not sparse is counted where the tar is unpacked, if it is.
                        taken, packed = (self.taken, size) if member.issparse() else (None, member.size)
                        inner = Member(member.name, float(member.mtime), packed)
                        yield from self._member(place, inner, cast("Stream", stream), taken, spoilt=place.name)
                    # tarfile keeps a list of all members, which a hostile archive makes long.
                    archive.members = []  # type: ignore[attr-defined]
            while raw.read(1 << 16):  # what packs it has a sum of all of it at its end
                pass
        except unreadable() as error:
            self._spoilt(place.name, error)

    def _zip(self, raw: BinaryIO, place: Place) -> Iterator[Place]:
        """The members of a zip; its table is at its end."""
        try:
            if not raw.seekable():
                raw = io.BytesIO(raw.read(MOST_OF_AN_INNER_ZIP + 1))
                if raw.getbuffer().nbytes > MOST_OF_AN_INNER_ZIP:
                    most = f"{MOST_OF_AN_INNER_ZIP >> 20} MiB"
                    self.notice(f"{place.name}: a zip of more than {most} in another: not read; unpack it")
                    return
            with zipfile.ZipFile(raw) as archive:
                for member in archive.infolist():
                    if self._is_one_too_many(place):
                        return
                    if not member.is_dir():
                        yield from self._zipped(archive, member, place)
        except broken() as error:
            self._spoilt(place.name, error)

    def _zipped(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: Place) -> Iterator[Place]:
        """A member of a zip: damage to it is none to the others."""
        name = f"{place.name}!{member.filename}"
        try:
            with archive.open(member) as stream:
                inner = Member(member.filename, _time_of(member), member.compress_size)
                yield from self._member(place, inner, cast("Stream", stream), self.taken, spoilt=name)
        except broken() as error:
            self._spoilt(name, error)

    def _member(
        self, archive: Place, member: Member, stream: Stream, taken: Taken | None, *, spoilt: str
    ) -> Iterator[Place]:
        """A member, or what is in it; damage in it is damage to what is named last."""
        path = _below(member.name)
        if self.passed_over(path):
            return
        bounded = self._bounded(stream, archive.name, member.packed, taken, spoilt)
        head = bounded.read(HEAD)
        raw = joined(head, bounded)
        place = Place(f"{archive.name}!{member.name}", path, member.written, raw, (*archive.members, member.name))
        yield from self.opened(raw, head, place, member.packed)

    def _is_one_too_many(self, archive: Place) -> bool:
        self.taken.members += 1
        if self.taken.is_too_much():
            return True
        if self.taken.members <= streams.MOST_MEMBERS:
            return False
        self.notice(f"{archive.name}: more than {streams.MOST_MEMBERS} members; the others are not read")
        return True

    def _spoilt(self, name: str, error: Exception) -> None:
        """Say that a file is damaged or too much, once: where an archive is, so is what it has from there on."""
        if not any(name == other or name.startswith(f"{other}!") for other in self.spoilt):
            self.spoilt.append(name)
            self.notice(str(error) if isinstance(error, Bomb) else f"{name}: cannot be read to its end: {error}")


def _is_zip(head: bytes) -> bool:
    return head.startswith(b"PK\x03\x04")


def _is_archive(head: bytes) -> bool:
    return _is_zip(head) or head[257:262] == b"ustar"


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
