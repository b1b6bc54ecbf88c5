"""What was read, with the file and line that it stands in; and what was not, with the reason."""

from __future__ import annotations

from enum import StrEnum
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Source(msgspec.Struct, frozen=True, array_like=True):
    """A file as the user would name it, archive and member joined by "!", and a line from 1; 0 for the whole file."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Basis(StrEnum):
    """Who says when something was so: the output itself (`date`, a snapshot), or the time of the file."""

    SAID = "said"
    FILE = "file"


class Moment(msgspec.Struct, frozen=True, array_like=True):
    """A time in seconds since the epoch. The time of a file is whole seconds, and a copy may have lost it."""

    epoch: float
    basis: Basis


class Fact(msgspec.Struct, Generic[T], frozen=True, tag_field="type", tag="fact"):
    """A value and where it stands."""

    value: T
    source: Source

    def __str__(self) -> str:
        return f"{self.value} ({self.source})"


class Unknown(msgspec.Struct, frozen=True, tag_field="type", tag="unknown"):
    """A value that no file has; `why` is the end of a sentence: "no file has it", "Permission denied"."""

    why: str = "no file has it"

    def __str__(self) -> str:
        return f"unknown: {self.why}"


NOWHERE = Unknown()
