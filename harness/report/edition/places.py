"""Where a document says something: lines of the register, as a reader looks them up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.claims.register import Place as At

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.claims.register import Register


@dataclass(frozen=True)
class Line:
    """Lines of a document that say one thing: `at` as the register has it, more than one where it is said again."""

    at: tuple[str, ...]
    statement: str
    claim: str = ""
    reason: str = ""

    @property
    def english(self) -> str:
        """line 37; lines 20–23; lines 174 and 176."""
        return in_english(self.at)


@dataclass(frozen=True)
class Place:
    """Where a claim stands: a document, a heading, and lines of it with what they say."""

    document: str
    heading: str
    lines: tuple[Line, ...] = ()

    @property
    def at(self) -> tuple[str, ...]:
        """All its lines."""
        return tuple(at for line in self.lines for at in line.at)

    @property
    def english(self) -> str:
        """000, line 37; without lines the heading stands in for them."""
        return f"{self.document}, {in_english(self.at)}" if self.lines else f"{self.document}, “{self.heading}”"

    @property
    def chinese(self) -> str:
        """第 37 行."""
        return "第 {} 行".format("、".join(_numbers(self.at))) if self.lines else f"“{self.heading}”"

    @property
    def said(self) -> list[tuple[str, list[str]]]:
        """What it says, by line: what stands in the same lines together."""
        together: dict[str, list[str]] = {}
        for line in self.lines:
            together.setdefault(line.english, []).append(line.statement)
        return list(together.items())


def in_english(at: Iterable[str]) -> str:
    """line 37; lines 20–23; lines 174 and 176."""
    numbers = _numbers(at)
    several = len(numbers) > 1 or "–" in numbers[0]
    joined = numbers[0] if len(numbers) == 1 else f"{', '.join(numbers[:-1])} and {numbers[-1]}"
    return f"{'lines' if several else 'line'} {joined}"


def _numbers(at: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(map(_spelled, at)))


def lines_under(register: Register | None, document: str, heading: str) -> list[Line]:
    """What the register has under a heading, in reading order; what is said twice there stands once."""
    merged: dict[tuple[str, str, str], list[str]] = {}
    for at, statement, claim, reason in _said(register, document, heading):
        merged.setdefault((statement, claim, reason), []).append(at)
    return [Line(tuple(dict.fromkeys(at)), *said) for said, at in merged.items()]


def line_of(register: Register | None, document: str, heading: str) -> int:
    """The line of a heading; 0 where nobody knows."""
    text = register.document.get(document) if register else None
    return next((section.line for section in text.section if section.heading == heading), 0) if text else 0


def _said(register: Register | None, document: str, heading: str) -> Iterator[tuple[str, str, str, str]]:
    for name, section, entry in register.entries() if register else ():
        if (name, section.heading) == (document, heading) and entry.statement:
            for claim in filter(None, (entry.claim, entry.instead_of)):
                yield entry.at, entry.statement, claim, ""
            if not entry.claim:
                yield entry.at, entry.statement, "", entry.reason or "not judged yet"


def _spelled(at: str) -> str:
    place = At.parse(at)
    return str(place.first) if place.first == place.last else f"{place.first}–{place.last}"
