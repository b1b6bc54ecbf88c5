"""The register of what the documents say, scenarios/register.toml: what can be wrong with it.

Each check gives a line for each problem; none looks into the documents but `misread`.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from typing import TYPE_CHECKING

from harness.claims.register import Entry, Place, Register, Section, Text, read

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.claims.documents import Document
    from harness.evidence.types import Claim

__all__ = ["Entry", "Place", "Register", "Section", "Text", "read"]

# Whose claims are our own: no document, so that the register has no line of it.
OURS = "kernel"
# What ends a sentence in these documents, beside the end of the line. A full stop stands in too many numbers and names.
_END = re.compile(r"(?<=[。！？；])")


def malformed(register: Register) -> list[str]:
    """Entries that say too much or too little of what becomes of them."""
    problems = []
    for name, _, entry in register.entries():
        ways = [key for key in ("claim", "wanted", "reason") if getattr(entry, key)]
        if bool(entry.nothing) == bool(entry.statement):
            problems.append(f"{name}:{entry.at}: needs `nothing` or `statement`, and not both")
        elif len(ways) != int(bool(entry.statement)):
            problems.append(f"{name}:{entry.at}: a statement needs one of claim, wanted and reason, not {ways}")
        elif entry.instead_of and entry.instead_of == entry.settled_by:
            problems.append(f"{name}:{entry.at}: {entry.instead_of} cannot stand instead of itself")
    return problems


def misplaced(register: Register) -> list[str]:
    """Entries out of reading order, outside their section, or at a sentence that the line does not have."""
    problems = []
    for name, text in register.document.items():
        ends = [section.line for section in text.section[1:]] + [text.lines + 1]
        for section, end in zip(text.section, ends, strict=True):
            reached = section.line
            for entry in section.says:
                place = entry.place
                where = f"{name}:{entry.at}"
                if not reached <= place.first <= place.last < end:
                    problems.append(f"{where}: is out of order, or not in lines {section.line} to {end - 1}")
                if place.sentences and not 1 <= place.sentences[0] <= place.sentences[1] <= text.sentences_of(
                    place.first
                ):
                    problems.append(f"{where}: line {place.first} has {text.sentences_of(place.first)} sentences")
                reached = max(reached, place.first)
    return problems


def left_out(register: Register) -> list[str]:
    """The sentences of the documents of which nothing is said, and the blank lines of which something is."""
    problems = []
    for name, text in register.document.items():
        blank, said = text.blank_lines, _said(text)
        for line in range(1, text.lines + 1):
            missing = set(range(1, text.sentences_of(line) + 1)) - said[line]
            if line in blank:
                missing = set()
            problems += [f"{name}:{line}.{sentence}: nothing is said of it" for sentence in sorted(missing)]
        problems += [f"{name}:{at}: is blank" for at in _only_blank(text)]
    return problems


def _said(text: Text) -> defaultdict[int, set[int]]:
    """The sentences of which something is said, by line. A heading says what it is itself."""
    said: defaultdict[int, set[int]] = defaultdict(set)
    for section in text.section:
        said[section.line] |= set(range(1, text.sentences_of(section.line) + 1))
        for entry in section.says:
            place = entry.place
            for line in range(place.first, place.last + 1):
                first, last = place.sentences or (1, text.sentences_of(line))
                said[line] |= set(range(first, last + 1))
    return said


def _only_blank(text: Text) -> list[str]:
    """The places with nothing but blank lines."""
    entries = [entry for section in text.section for entry in section.says]
    return [entry.at for entry in entries if set(range(entry.place.first, entry.place.last + 1)) <= text.blank_lines]


def other_headings(register: Register, documents: Mapping[str, Document]) -> list[str]:
    """The documents whose sections are not the headings of documents.toml, one after the other."""
    problems = [f"{name}: is no document" for name in register.document.keys() ^ (documents.keys() - {OURS})]
    for name in register.document.keys() & documents.keys():
        headings = tuple(section.heading for section in register.document[name].section if section.line)
        if headings != documents[name].headings:
            problems.append(
                f"{name}: its sections are not its headings: {set(headings) ^ set(documents[name].headings)}"
            )
    return problems


def unknown(register: Register, claims: Mapping[str, Claim]) -> list[str]:
    """Claims that are named and do not exist, and those that are wanted though they do."""
    groups = {claim.group for claim in claims.values()}
    problems = set()
    for name, _, entry in register.entries():
        where = f"{name}:{entry.at}"
        problems |= {
            f"{where}: there is no claim {each}"
            for each in (entry.claim, entry.instead_of)
            if each and each not in claims
        }
        if entry.wanted in claims:
            problems.add(f"{where}: {entry.wanted} is written: name it as `claim`")
        elif entry.wanted and entry.wanted.partition(".")[0] not in groups:
            problems.add(f"{where}: {entry.wanted} is of no group that there is")
    return sorted(problems)


def at_odds(register: Register) -> list[str]:
    """Statements that are settled in one way at one place and in another elsewhere."""
    ways: defaultdict[str, set[str]] = defaultdict(set)
    for _, _, entry in register.entries():
        if entry.statement:
            ways[entry.statement].add(entry.settled_by)
    return [f"{statement!r}: is settled by {sorted(each)}" for statement, each in ways.items() if len(each) > 1]


def unregistered(register: Register, claims: Mapping[str, Claim]) -> list[str]:
    """The sources of claims where no line of the register has the claim."""
    places = {
        (each, name, section.heading)
        for name, section, entry in register.entries()
        for each in (entry.claim, entry.instead_of)
        if each
    }
    return [
        f"{claim.name}: no line of document {source.document}, {source.heading!r}, has it"
        for claim in claims.values()
        for source in claim.sources
        if source.document in register.document and (claim.name, source.document, source.heading) not in places
    ]


def without_source(register: Register, claims: Mapping[str, Claim]) -> set[tuple[str, str, str]]:
    """(claim, document, heading) where the register has a claim whose file does not name the place as a source."""
    return {
        (entry.claim, name, section.heading)
        for name, section, entry in register.entries()
        if entry.claim in claims
        and not any((s.document, s.heading) == (name, section.heading) for s in claims[entry.claim].sources)
    }


def misread(text: Text, document: Path) -> list[str]:
    """What the register has otherwise than the document itself."""
    content = document.read_bytes()
    lines = content.decode().splitlines()
    blank = {number for number, line in enumerate(lines, 1) if not line.strip()}
    counts = {number: count for number, line in enumerate(lines, 1) if (count := len(sentences(line))) > 1}
    problems = []
    if hashlib.sha256(content).hexdigest() != text.sha256:
        problems.append(f"{document.name}: is another file than the one that was registered")
    if len(lines) != text.lines:
        problems.append(f"{document.name}: has {len(lines)} lines, not {text.lines}")
    if blank != text.blank_lines:
        problems.append(f"{document.name}: blank or not: lines {sorted(blank ^ text.blank_lines)}")
    if counts != text.sentences:
        problems.append(f"{document.name}: other numbers of sentences: {dict(counts.items() ^ text.sentences.items())}")
    return problems + [
        f"{document.name}: line {section.line} is not {section.heading!r}"
        for section in text.section
        if section.line and section.heading not in lines[section.line - 1]
    ]


def sentences(line: str) -> list[str]:
    """The sentences of a line: what is left between the marks that end one, if it has a letter or a digit."""
    return [part for part in _END.split(line) if re.search(r"\w", part)]
