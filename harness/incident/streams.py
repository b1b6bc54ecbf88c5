"""Streams of what others have packed: bounded, read as far as they go, and never unpacked to the disk."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from harness.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable

# What a file may unpack to, in bytes and in members, with all that is packed in it: a large sosreport has some hundred
# megabytes, 50,000 files.
MOST_BYTES = 2 << 30
MOST_MEMBERS = 200_000
# A file that unpacks to more than this and to so many times its size is made to do so: text shrinks to a twentieth.
SUSPECT, TIMES = 64 << 20, 250
BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, NotImplementedError)
ZSTANDARD = b"\x28\xb5\x2f\xfd"


class Stream(Protocol):
    """What can be read, also without waiting until all of it is there."""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes."""

    def read1(self, size: int = -1, /) -> bytes:
        """At most so many bytes, by a single read of what is below: what stands before damage comes through."""


class Bomb(BadInput):
    """A file that unpacks to more than anybody has a use for."""


@dataclass
class Taken:
    """What was unpacked of a file on the disk, with all that is packed in it: bytes, and members of archives."""

    name: str
    unpacked: int = 0
    members: int = 0

    def is_too_much(self) -> bool:
        """Whether nothing more is to be unpacked of it."""
        return self.unpacked > MOST_BYTES


class Bounded(io.RawIOBase):
    """A stream that counts what is read of it, and stops at a bomb; `packed` is the size of the file it comes from.

    Without `taken` another one counts, of what this comes from. With `spoilt` it ends where it is damaged or too much,
    after it has said so there: without, it raises.
    """

    def __init__(
        self,
        stream: Stream,
        name: str,
        packed: int,
        taken: Taken | None,
        spoilt: Callable[[Exception], None] | None = None,
    ) -> None:
        super().__init__()
        self._stream, self._name, self._packed = stream, name, packed
        self._taken, self._spoilt = taken, spoilt
        self._count, self._ended = 0, False

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        if self._ended:
            return 0
        spoils: tuple[type[Exception], ...] = (Bomb, *unreadable())
        try:
            piece = self._stream.read1(len(buffer))
            self._counted(len(piece))
        except spoils as error:
            if not self._spoilt:
                raise
            self._ended = True
            self._spoilt(error)
            return 0
        buffer[: len(piece)] = piece
        return len(piece)

    def _counted(self, size: int) -> None:
        """Bomb, if that is too much."""
        if not self._taken:
            return
        self._count += size
        self._taken.unpacked += size
        if self._count > SUSPECT and self._count > TIMES * max(1, self._packed):
            raise bomb_of(self._name, self._count)
        if self._taken.is_too_much():
            raise bomb_of(self._taken.name, MOST_BYTES)


def bomb_of(name: str, count: int) -> Bomb:
    """What says that a file unpacks to more than so many bytes."""
    return Bomb(f"{name}: unpacks to more than {count >> 20} MiB: not read further; unpack it, and name the files")


class Joined(io.RawIOBase):
    """What was read of a stream already, and the rest of it."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        super().__init__()
        self._head, self._rest = memoryview(head), rest

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill a buffer."""
        piece = self._head[: len(buffer)] or self._rest.read1(len(buffer))  # type: ignore[attr-defined]
        self._head = self._head[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)


def joined(head: bytes, rest: BinaryIO) -> BinaryIO:
    """The stream as it was before its head was read."""
    return io.BufferedReader(Joined(head, rest), 1 << 16)


def unpacker_of(head: bytes) -> Callable[[BinaryIO], Stream] | None:
    """What unpacks a file that begins so; None for one that is not packed, and NoZstandard where nothing does."""
    if head.startswith(ZSTANDARD):
        zstandard = find_zstandard()
        if zstandard is None:
            raise NoZstandard
        return zstandard.ZstdFile  # type: ignore[no-any-return]
    return next((unpacker for magic, unpacker in UNPACKERS if head.startswith(magic)), None)


UNPACKERS: tuple[tuple[bytes, Callable[[BinaryIO], Stream]], ...] = (
    (b"\x1f\x8b", lambda raw: gzip.GzipFile(fileobj=raw)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\0", lzma.LZMAFile),
)


class NoZstandard(Exception):
    """Nothing here unpacks zstd."""


@cache
def find_zstandard() -> Any:
    """What unpacks zstd: in the standard library since 3.14, before a backport; None where there is neither."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def unreadable() -> tuple[type[Exception], ...]:
    """What a stream raises while it is read, where what packs it is damaged."""
    zstandard = find_zstandard()
    return (*BROKEN, *((zstandard.ZstdError,) if zstandard else ()))


def broken() -> tuple[type[Exception], ...]:
    """What reading raises where a file is damaged, or not what it says that it is."""
    return (*unreadable(), RuntimeError, ValueError)
