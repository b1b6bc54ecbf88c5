"""Lines of a file that may be anything: long ones are cut, control characters are taken out of what is kept."""

from __future__ import annotations

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


def lines(stream: BinaryIO) -> Iterator[tuple[int, str]]:
    """Number and text of each line, without its end; what is behind 65,536 bytes of a line, or a GiB, is left out."""
    number = size = 0
    while size < MOST and (piece := stream.readline(LONGEST_LINE)):
        number += 1
        whole = piece
        size += len(piece)
        while size < MOST and not piece.endswith(b"\n") and (piece := stream.readline(LONGEST_LINE)):
            size += len(piece)
        yield number, whole.decode("utf-8", errors="replace").rstrip("\r\n")


def plain(text: str, longest: int = 500) -> str:
    """A text that can be shown on a terminal."""
    return CONTROL.sub("", text)[:longest]
