"""The register: what the documents say, sentence by sentence, each with the claim that settles it or why it needs none.

`at` of an entry is where it stands: "37" a line, "37.2" its second sentence, "37.2-3" two of them, "20-23" lines.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from harness import files
from harness.errors import ClaimError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PLACE = re.compile(r"(\d+)(?:-(\d+)|\.(\d+)(?:-(\d+))?)?")


class Place(msgspec.Struct, frozen=True):
    """Where something stands: lines, or sentences of one line. Both ends count; `sentences` is None for all of them."""

    first: int
    last: int
    sentences: tuple[int, int] | None = None

    @classmethod
    def parse(cls, words: str) -> Place:
        """From "37", "20-23", "37.2" or "37.2-3"; ClaimError if it is none of these."""
        parts = _PLACE.fullmatch(words)
        if not parts:
            raise ClaimError(f"{words!r} is no place: write it like 37, 20-23, 37.2 or 37.2-3")
        line, last, sentence, last_sentence = (int(part) if part else 0 for part in parts.groups())
        sentences = (sentence, last_sentence or sentence) if sentence else None
        return cls(line, last or line, sentences)


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a place says: nothing, or a statement and what becomes of it."""

    at: str
    nothing: str = ""
    statement: str = ""
    claim: str = ""
    wanted: str = ""
    reason: str = ""
    instead_of: str = ""

    @property
    def place(self) -> Place:
        """Where it stands."""
        return Place.parse(self.at)

    @property
    def settled_by(self) -> str:
        """The claim that settles it, or will when it is written; empty where a reason does."""
        return self.claim or self.wanted


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands under a heading, which is on `line`; both are empty for what stands before the first."""

    says: tuple[Entry, ...]
    heading: str = ""
    line: int = 0


class Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A document: its checksum and shape, and what it says."""

    sha256: str
    lines: int
    sentences: dict[int, int]
    blank: str
    section: tuple[Section, ...]

    @property
    def blank_lines(self) -> set[int]:
        """The lines with nothing on them."""
        ranges = [Place.parse(words) for words in self.blank.split(", ") if words]
        return {line for each in ranges for line in range(each.first, each.last + 1)}

    def sentences_of(self, line: int) -> int:
        """How many sentences a line that is not blank has."""
        return self.sentences.get(line, 1)


class Register(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All documents, by the first digits of their names."""

    document: dict[str, Text]

    def entries(self) -> Iterator[tuple[str, Section, Entry]]:
        """Each entry with the document and the section in which it stands, in reading order."""
        for name, text in self.document.items():
            for section in text.section:
                for entry in section.says:
                    yield name, section, entry

    def wanted(self) -> set[str]:
        """The claims that must be written."""
        return {entry.wanted for _, _, entry in self.entries() if entry.wanted}

    def superseded(self) -> set[str]:
        """The claims that are to go, because another states the same."""
        return {entry.instead_of for _, _, entry in self.entries() if entry.instead_of}


def read(file: Path) -> Register:
    """The register; ClaimError if it is not one."""
    try:
        return msgspec.toml.decode(files.content(file), type=Register)
    except OSError as error:
        raise ClaimError(f"{file}: cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ClaimError(f"{file}: {error}") from None
