"""Lines of a file that may be anything: long ones are cut, control characters are taken out of what is kept."""

from __future__ import annotations

import codecs
import io
import re
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_LINE = 1 << 16
# Of one file, in bytes: a list of some million sockets.
MOST = 1 << 30
# C0 and C1 control characters, and those that turn the direction of text or are not seen.
CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)


# What a file begins with that a Windows shell has written, and how the rest of it is encoded.
MARKS = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"\xef\xbb\xbf", "utf-8"))


def encoding_of(head: bytes) -> tuple[bytes, str] | None:
    """The mark that a file begins with, and its encoding; None for a file without one."""
    return next((known for known in MARKS if head.startswith(known[0])), None)


class Recoded(io.RawIOBase):
    """A stream of another encoding as UTF-8."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        super().__init__()
        self._stream, self._ready = stream, b""
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill a buffer."""
        while not self._ready and (piece := self._stream.read(len(buffer))):
            self._ready = self._decoder.decode(piece).encode(errors="replace")
        piece, self._ready = self._ready[: len(buffer)], self._ready[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)


def lines(stream: BinaryIO) -> Iterator[tuple[int, str]]:
    """Number and text of each line, without its end; what is behind 65,536 bytes of a line, or a GiB, is left out."""
    number = size = 0
    while size < MOST and (piece := stream.readline(LONGEST_LINE)):
        number += 1
        whole = piece
        size += len(piece)
        while size < MOST and not piece.endswith(b"\n") and (piece := stream.readline(LONGEST_LINE)):
            size += len(piece)
        yield number, shown(whole.decode("utf-8", errors="replace"))


# Where a terminal was recorded, as `script` does: what it was told stands before and within a line.
TERMINAL = re.compile(r"\x1b(?:\][^\x07\x1b]*(?:\x07|\x1b\\)|\[[0-9;?]*[ -/]*[@-~]|[ -/]+[0-~]|[0-?M])")


def shown(line: str) -> str:
    """A line as it was to be read: without its end, spaces there, and what a terminal was told."""
    if "\x1b" in line:
        line = TERMINAL.sub("", line)
    return line.rstrip(" \t\r\n").lstrip("\r")


def plain(text: str, longest: int = 500) -> str:
    """A text that can be shown on a terminal."""
    return CONTROL.sub("", text)[:longest]
