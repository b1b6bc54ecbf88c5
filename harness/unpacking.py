"""Unpacking what others have packed: regular files alone, each with a limit, by programs without rights.

Whoever unpacks an archive to the disk does it here. Nothing is put where the archive says: it gives names and contents,
and whoever asks for them has names of its own. Members that are no regular files (links, devices, pipes) are passed
over; one whose name leads out of the archive makes the whole archive refused.
"""

from __future__ import annotations

import contextlib
import io
import lzma
import os
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from harness.errors import BadInput, MissingProgram

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# A kernel, uncompressed, has some sixty megabytes, with all of its modules some hundred; whoever says more lies.
LARGEST, LARGEST_FILE = 8 << 30, 512 << 20
MOST_MEMBERS = 500_000
NOBODY = 65534
PIECE = 1 << 20


class TooLarge(ValueError):
    """What is packed has more bytes than anybody has a use for."""

    def __init__(self, most: int) -> None:
        super().__init__(f"more than {most >> 20} MB are packed in it")


def inflated(decompressor: zlib._Decompress | lzma.LZMADecompressor, packed: bytes, most: int = LARGEST_FILE) -> bytes:
    """What is packed, at most so many bytes; ValueError if it is more, damaged, or ends early."""
    try:
        content = decompressor.decompress(packed, most)
    except (zlib.error, lzma.LZMAError) as error:
        raise ValueError(str(error)) from None
    if not decompressor.eof:
        if len(content) >= most:
            raise TooLarge(most)
        raise ValueError("it ends early")
    return content


def gunzipped(packed: bytes, most: int = LARGEST_FILE) -> bytes:
    """The content of a .gz; ValueError."""
    return inflated(zlib.decompressobj(zlib.MAX_WBITS | 16), packed, most)


def unxzed(packed: bytes, most: int = LARGEST_FILE) -> bytes:
    """The content of an .xz or .lzma; ValueError."""
    return inflated(lzma.LZMADecompressor(), packed, most)


def unzstded(packed: bytes, most: int = LARGEST_FILE) -> bytes:
    """The content of a .zst, by zstd(1); ValueError, MissingProgram."""
    with tempfile.TemporaryFile() as given:
        given.write(packed)
        given.seek(0)
        with _running(["zstd", "-dcq"], given, "zstd") as (stream, errors):
            content = stream.read(most + 1)
            if len(content) > most:
                raise TooLarge(most)
            ended = stream.wait()
        if ended:
            raise ValueError(_said(errors))
    return content


def members(package: Path, program: Sequence[str], debian: str) -> Iterator[tuple[str, IO[bytes]]]:
    """The regular files of a package, by their paths in it, as a program prints them as a tar archive.

    The program reads the package from its standard input; as root it is run as nobody. `debian` is the package that
    brings it. BadInput if the package is damaged, too large, or has names that lead out of it.
    """
    any_there = False
    with package.open("rb") as given, _running(program, given, debian) as (stream, errors):
        try:
            with tarfile.open(fileobj=_Limited(stream, package), mode="r|") as archive:
                for count, member in enumerate(archive):
                    any_there = True
                    if count > MOST_MEMBERS:
                        raise BadInput(f"{package}: more than {MOST_MEMBERS} files are in it: no kernel's package")
                    if not member.isreg():
                        continue
                    _refuse_outside(member, package)
                    content = archive.extractfile(member)
                    if content is not None:
                        yield member.name, content
        except (tarfile.TarError, EOFError, OverflowError, UnicodeError):
            stream.end()
            raise BadInput(f"{package}: damaged, or no package: {_said(errors)}") from None
        # Of an RPM that ends within its header bsdtar makes an archive without files, and is content.
        if stream.wait() or not any_there:
            raise BadInput(f"{package}: damaged, or no package: {_said(errors)}")


def copy(content: IO[bytes], file: Path, package: Path) -> None:
    """Write a member to a file of our own choice; BadInput if it is too large, or ends early."""
    left = LARGEST_FILE
    with file.open("wb") as written:
        while data := _next(content, package):
            left -= len(data)
            if left < 0:
                raise BadInput(f"{package}: a file of more than {LARGEST_FILE >> 20} MB is in it: no kernel's package")
            written.write(data)


def _next(content: IO[bytes], package: Path) -> bytes:
    """The next piece of a member."""
    try:
        return content.read(PIECE)
    except (tarfile.TarError, EOFError):
        raise BadInput(f"{package}: damaged, or no package: it ends early") from None


def _refuse_outside(member: tarfile.TarInfo, package: Path) -> None:
    """As tarfile.data_filter() does, which Debian 12's Python has not, and stricter: no ".." at all."""
    parts = member.name.split("/")
    if ".." in parts or "\0" in member.name or member.name.startswith("/"):
        raise BadInput(f"{package}: {member.name!r} is in it, which leads out of it: nothing of it is used")


class _Printed(io.RawIOBase):
    """What a program prints; the program ends with it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def read(self, size: int = -1) -> bytes:
        """The next bytes, as many as asked for if there are so many."""
        assert self._process.stdout is not None
        return self._process.stdout.read(size)

    def wait(self) -> int:
        """Its exit status; what is left of its output is not read."""
        assert self._process.stdout is not None
        while self._process.stdout.read(PIECE):
            pass
        return self._process.wait()

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def _running(program: Sequence[str], given: IO[bytes], debian: str) -> Iterator[tuple[_Printed, IO[bytes]]]:
    """A program that reads a file and prints what is in it: what it prints, and what it complains of."""
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                [*program], stdin=given, stdout=subprocess.PIPE, stderr=errors, cwd="/", **_without_rights()
            )
        except FileNotFoundError:
            raise MissingProgram(program[0], debian) from None
        stream = _Printed(process)
        try:
            yield stream, errors
        finally:
            stream.end()
            assert process.stdout is not None
            process.stdout.close()


def _without_rights() -> dict[str, Any]:
    """As root: what has a program be nobody's, where there is a nobody."""
    if os.geteuid() != 0:
        return {}
    ranges = [list(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    if not any(first <= NOBODY < first + count for first, _, count in ranges):
        return {}
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []}


def _said(errors: IO[bytes]) -> str:
    errors.seek(0)
    return " ".join(errors.read(1 << 16).decode(errors="replace").split())[:300] or "it ends early"


class _Limited(io.RawIOBase):
    """A stream that ends with an error where it is longer than any kernel's package."""

    def __init__(self, stream: _Printed, package: Path) -> None:
        self._stream, self._package, self._left = stream, package, LARGEST

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes; BadInput beyond the limit."""
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise BadInput(f"{self._package}: more than {LARGEST >> 30} GB are in it: no kernel's package")
        return data
