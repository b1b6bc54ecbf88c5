"""Claims as data: what a document says, where it stands, and what to expect on which kernels.

A claim file is TOML:

    group = "accept-queue"

    [[claim]]
    id = "capacity"
    statement = "the most that may wait is min(somaxconn, backlog)"
    source = [ { document = "000", heading = "…" } ]

    [[claim.expect]]
    kernels = ">=2.6.21"        # ">=" and "<" and "==4.19.*" of packaging's specifiers
    verdict = "refuted"         # holds | refuted | not-applicable
    because = "one more than the limit waits"
    commit = "64a146513f8f"     # what made it so; for every refuted, and every range that begins after 3.0
    subject = "[NET]: Revert incorrect accept queue backlog changes."
    release = "2.6.21"          # the first with that commit

Where it is not the kernel that makes it so but the program that the document tells one to type, `tool` names the
program; `release` is then the first of the program's, and the commit one of its history (left out with the subject
where there is none):

    tool = "iproute2"
    commit = "7a4559f67c8c"
    subject = "ss: Add option to suppress header line"
    release = "4.8"

The ranges of a claim do not overlap, and leave no kernel from 3.0 on without an expectation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import BadInput, ClaimError
from harness.laws.kernel import KernelVersion, Release

if TYPE_CHECKING:
    from collections.abc import Iterable

OLDEST: Release = (3, 0, 0)
_COMMIT = re.compile(r"[0-9a-f]{12,40}")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class Verdict(StrEnum):
    """What a kernel makes of a claim."""

    HOLDS = "holds"
    REFUTED = "refuted"
    NOT_APPLICABLE = "not-applicable"


@dataclass(frozen=True)
class Source:
    """Where a claim stands: a document by the first digits of its name, and the heading above the words."""

    document: str
    heading: str


@dataclass(frozen=True)
class Boundary:
    """The commit that made an expectation true: its hash, its subject, and the first release that has it.

    It is the kernel's, or that of a `tool`, whose commit and subject can be empty.
    """

    commit: str
    subject: str
    release: str
    tool: str | None = None

    def __str__(self) -> str:
        release = f"{self.tool} {self.release}" if self.tool else self.release
        return f"commit {self.commit} in {release}" if self.commit else release


@dataclass(frozen=True)
class Expectation:
    """A verdict for a range of kernels [first, end), the reason, and the commit the range begins with."""

    kernels: str
    first: Release
    end: Release | None
    verdict: Verdict
    because: str
    boundary: Boundary | None = None

    def covers(self, kernel: KernelVersion) -> bool:
        """Whether the kernel is in the range."""
        return self.first <= kernel.release and (self.end is None or kernel.release < self.end)


@dataclass(frozen=True)
class Claim:
    """One statement of a document about what Linux does."""

    group: str
    id: str
    statement: str
    sources: tuple[Source, ...]
    expectations: tuple[Expectation, ...]
    file: Path

    @property
    def name(self) -> str:
        """Group and id: accept-queue.capacity."""
        return f"{self.group}.{self.id}"

    def expected_on(self, kernel: KernelVersion) -> Expectation | None:
        """What is expected on a kernel; None for one older than every range."""
        return next((one for one in self.expectations if one.covers(kernel)), None)


def load(path: str | Path) -> dict[str, Claim]:
    """The claims of a file, or of every *.toml in a directory, by full name.

    Raises ClaimError, naming file, claim and cure, for whatever is malformed.
    """
    path = Path(path)
    files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
    if not files:
        raise ClaimError(f"{path}: no claim file here (*.toml); set the ini option `claims` to where they are")
    claims: dict[str, Claim] = {}
    for file in files:
        for claim in _load_file(file):
            if claim.name in claims:
                where = claims[claim.name].file
                raise ClaimError(f"{file}: claim {claim.name} stands in {where} already; give one another id")
            claims[claim.name] = claim
    return claims


def covers(kernels: str, kernel: KernelVersion) -> bool:
    """Whether a kernel is in a range as claim files write it; ClaimError if it is not such a range."""
    first, end = _range(kernels, "a range of kernels:")
    return first <= kernel.release and (end is None or kernel.release < end)


def find(name: str, claims: dict[str, Claim]) -> Claim:
    """The claim of that name; ClaimError, with the nearest names, if there is none."""
    if name in claims:
        return claims[name]
    raise ClaimError(f"no claim is named {name!r}{_nearest(name, claims)}")


def _nearest(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, list(names), n=3, cutoff=0.5)
    return f"; the nearest: {', '.join(near)}" if near else ""


def _load_file(file: Path) -> tuple[Claim, ...]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ClaimError(f"{file}: cannot be read: {error.strerror}") from None
    return _claims_of(content, file)


@lru_cache(maxsize=256)
def _claims_of(content: bytes, file: Path) -> tuple[Claim, ...]:
    """The claims of a file's content, parsed once in a process: a restored guest has done it before it was saved."""
    import tomllib

    try:
        table = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ClaimError(f"{file}: not a TOML file: {error}") from None
    place = f"{file}:"
    _known_keys(table, {"group", "claim"}, place)
    group = _name(table, "group", place)
    rows = _tables(table, "claim", place)
    return tuple(_claim(row, group, file) for row in rows)


def _claim(row: dict[str, Any], group: str, file: Path) -> Claim:
    id_ = _name(row, "id", f"{file}: a claim of group {group}:")
    place = f"{file}: claim {group}.{id_}:"
    _known_keys(row, {"id", "statement", "source", "expect"}, place)
    sources = tuple(
        Source(_text(source, "document", f"{place} source:"), _text(source, "heading", f"{place} source:"))
        for source in _tables(row, "source", place)
    )
    expectations = tuple(_expectation(one, place) for one in _tables(row, "expect", place))
    ordered = tuple(sorted(expectations, key=lambda one: one.first))
    _cover_everything(ordered, place)
    return Claim(group, id_, _text(row, "statement", place), sources, ordered, file)


def _expectation(row: dict[str, Any], place: str) -> Expectation:
    known = {"kernels", "verdict", "because", "commit", "subject", "release", "tool"}
    _known_keys(row, known, f"{place} expect:")
    kernels = _text(row, "kernels", f"{place} expect:")
    place = f"{place} expect {kernels!r}:"
    first, end = _range(kernels, place)
    spelled = _text(row, "verdict", place)
    try:
        verdict = Verdict(spelled)
    except ValueError:
        raise ClaimError(f"{place} verdict {spelled!r} is none of {', '.join(Verdict)}") from None
    boundary = _boundary(row, place)
    if boundary is None and (verdict is Verdict.REFUTED or first > OLDEST):
        reason = "it is refuted" if verdict is Verdict.REFUTED else "the range begins after 3.0"
        raise ClaimError(f"{place} {reason}, so it needs commit, subject and release of what made it so")
    if boundary is not None and boundary.tool and first > OLDEST:
        raise ClaimError(f"{place} the range begins after 3.0: a commit of {boundary.tool} is no boundary of kernels")
    return Expectation(kernels, first, end, verdict, _text(row, "because", place), boundary)


def _boundary(row: dict[str, Any], place: str) -> Boundary | None:
    if "tool" in row:
        return _boundary_of_tool(row, place)
    if not row.keys() & {"commit", "subject", "release"}:
        return None
    commit = _commit(row, place)
    release = _text(row, "release", place)
    try:
        KernelVersion.parse(release)
    except BadInput as error:
        raise ClaimError(f"{place} release: {error}") from None
    return Boundary(commit, _text(row, "subject", place), release)


def _boundary_of_tool(row: dict[str, Any], place: str) -> Boundary:
    tool, release = _text(row, "tool", place), _text(row, "release", place)
    if not row.keys() & {"commit", "subject"}:
        return Boundary("", "", release, tool)
    return Boundary(_commit(row, place), _text(row, "subject", place), release, tool)


def _commit(row: dict[str, Any], place: str) -> str:
    commit = _text(row, "commit", place)
    if not _COMMIT.fullmatch(commit):
        raise ClaimError(f"{place} commit {commit!r} is not 12 to 40 hexadecimal digits")
    return commit


def _range(kernels: str, place: str) -> tuple[Release, Release | None]:
    """A specifier as first release in and first release out."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        specifiers = SpecifierSet(kernels)
    except InvalidSpecifier:
        raise ClaimError(f"{place} not a range of versions; write it like '>=4.10,<5.4'") from None
    first: Release = (0, 0, 0)
    end: Release | None = None
    for specifier in specifiers:
        version = specifier.version.removesuffix(".*")
        release = _release(version, place)
        if specifier.operator == ">=":
            first = max(first, release)
        elif specifier.operator == "<":
            end = release if end is None else min(end, release)
        elif specifier.operator == "==" and specifier.version.endswith(".*"):
            first, end = release, _after(version, release)
        else:
            raise ClaimError(f"{place} write a range with >= and < (or ==4.19.*), not {specifier.operator}")
    if end is not None and end <= first:
        raise ClaimError(f"{place} the range is empty")
    return first, end


def _release(version: str, place: str) -> Release:
    if not re.fullmatch(r"\d+(\.\d+){0,2}", version):
        raise ClaimError(f"{place} {version!r} is not a release: write one to three numbers, like 5.10.234")
    major, minor, patch = ([int(number) for number in version.split(".")] + [0, 0])[:3]
    return major, minor, patch


def _after(version: str, release: Release) -> Release:
    """The first release that 4.* or 4.19.* does not mean."""
    major, minor, _ = release
    return (major + 1, 0, 0) if "." not in version else (major, minor + 1, 0)


def _cover_everything(ordered: tuple[Expectation, ...], place: str) -> None:
    reached: Release | None = OLDEST
    previous = ""
    for one in ordered:
        if reached is None or (previous and one.first < reached):
            raise ClaimError(f"{place} expectations {previous!r} and {one.kernels!r} overlap")
        if one.first > reached:
            raise ClaimError(f"{place} nothing is expected from {_spell(reached)} up to {_spell(one.first)}")
        if one.end is None or one.end > OLDEST:
            reached, previous = one.end, one.kernels
    if reached is not None:
        raise ClaimError(f"{place} nothing is expected from {_spell(reached)} on")


def _spell(release: Release) -> str:
    major, minor, patch = release
    return f"{major}.{minor}.{patch}" if patch else f"{major}.{minor}"


def _known_keys(row: dict[str, Any], known: set[str], place: str) -> None:
    for key in row.keys() - known:
        raise ClaimError(f"{place} does not know {key!r}{_nearest(key, known)}")


def _text(row: dict[str, Any], key: str, place: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ClaimError(f"{place} {key} must be given, as text that is not empty")
    return value


def _name(row: dict[str, Any], key: str, place: str) -> str:
    name = _text(row, key, place)
    if not _NAME.fullmatch(name):
        raise ClaimError(f"{place} {key} {name!r} must be lower-case words joined by hyphens")
    return name


def _tables(row: dict[str, Any], key: str, place: str) -> list[dict[str, Any]]:
    value = row.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        raise ClaimError(f"{place} needs at least one [[{key}]] table")
    return value
