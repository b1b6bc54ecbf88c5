"""Claim files: what a document says, where it stands, and what to expect on which kernels, read from TOML.

    group = "accept-queue"

    [[claim]]
    id = "somaxconn-default"
    statement = "somaxconn is 128 by default."
    source = [ { document = "000", heading = "…" } ]

    [[claim.expect]]
    before = "somaxconn-default-is-4096"    # a name in harness/laws/boundaries.toml
    verdict = "holds"                       # holds | refuted | not-applicable
    because = "SOMAXCONN was 128"

    [[claim.expect]]
    since = "somaxconn-default-is-4096"
    verdict = "refuted"
    because = "it is 4096"

An expectation is for the kernels `since` a boundary, `before` one, or both; with neither for all. What makes it so is
the boundary of `since`, or another that `cause` names: what a program does and not the kernel, or "always". Every
refuted needs one of them.

Where there is no boundary to name, the range and what made it so can be written out:

    kernels = ">=2.6.21"        # see harness.laws.releases
    verdict = "refuted"
    because = "one more than the limit waits"
    commit = "64a146513f8f"     # for every refuted, and every range that begins after 3.0
    subject = "[NET]: Revert incorrect accept queue backlog changes."
    release = "2.6.21"          # the first with that commit
    tool = "iproute2"           # if it is not the kernel's: then the commit may be left out with its subject

The expectations of a claim do not overlap, and leave no kernel from 3.0 on without one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from harness.errors import BadInput, ClaimError
from harness.evidence.types import Change, Claim, Expectation, Source, Verdict
from harness.files import content as content_of
from harness.files import is_directory
from harness.laws.boundaries import Boundary, boundary
from harness.laws.kernel import KernelVersion
from harness.laws.releases import ALL, Ranges, intersect, outside, parse, spell, spell_release

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.laws.kernel import Release

OLDEST: Release = (3, 0, 0)
_COMMIT = re.compile(r"[0-9a-f]{12,40}")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_BY_NAME = ("since", "before", "cause")
_WRITTEN_OUT = ("kernels", "commit", "subject", "release", "tool")


Row = Mapping[str, object]
Found = TypeVar("Found")


class _Scope(NamedTuple):
    """The kernels of an expectation, and what made it so on them."""

    ranges: Ranges
    change: Change | None


def load(path: str | Path) -> dict[str, Claim]:
    """The claims of a file, or of every *.toml in a directory, by full name.

    Raises ClaimError, naming file, claim and cure, for whatever is malformed.
    """
    path = Path(path)
    files = sorted(path.glob("*.toml")) if is_directory(path) else [path]
    if not files:
        raise ClaimError(f"{path}: no claim file here (*.toml); set pytest's `tcp_claim_files` to where they are")
    claims: dict[str, Claim] = {}
    places: dict[str, Path] = {}
    for file in files:
        for claim in _load_file(file):
            if claim.name in claims:
                where = places[claim.name]
                raise ClaimError(f"{file}: claim {claim.name} stands in {where} already; give one another id")
            claims[claim.name], places[claim.name] = claim, file
    return claims


def find(name: str, claims: Mapping[str, Found]) -> Found:
    """The claim of that name; ClaimError, with the nearest names, if there is none."""
    if name in claims:
        return claims[name]
    raise ClaimError(f"no claim is named {name!r}{_nearest(name, claims)}")


def _load_file(file: Path) -> tuple[Claim, ...]:
    try:
        content = content_of(file)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ClaimError(f"{file}: cannot be read: {why}") from None
    return _claims_of(content, file)


@lru_cache(maxsize=256)
def _claims_of(content: bytes, file: Path) -> tuple[Claim, ...]:
    """The claims of a file's content, parsed once in a process: a restored guest has done it before it was saved."""
    import tomllib

    try:
        table = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # tomllib's own are ValueErrors
        raise ClaimError(f"{file}: not a TOML file: {error}") from None
    place = f"{file}:"
    _known_keys(table, {"group", "claim"}, place)
    group = _name(table, "group", place)
    return tuple(_claim(row, group, file) for row in _tables(table, "claim", place))


def _claim(row: Row, group: str, file: Path) -> Claim:
    id_ = _name(row, "id", f"{file}: a claim of group {group}:")
    place = f"{file}: claim {group}.{id_}:"
    _known_keys(row, {"id", "statement", "source", "expect"}, place)
    sources = tuple(
        Source(_text(source, "document", f"{place} source:"), _text(source, "heading", f"{place} source:"))
        for source in _tables(row, "source", place)
    )
    expectations = tuple(_expectation(expected, place) for expected in _tables(row, "expect", place))
    _cover_everything(expectations, place)
    in_order = tuple(sorted(expectations, key=lambda expected: expected.ranges[0]))
    return Claim(group, id_, _text(row, "statement", place), sources, in_order)


def _expectation(row: Row, place: str) -> Expectation:
    _known_keys(row, {"verdict", "because", *_BY_NAME, *_WRITTEN_OUT}, f"{place} expect:")
    place = f"{place} expect{_range_keys(row)}:"
    scope = _written_out(row, place) if row.keys() & set(_WRITTEN_OUT) else _by_name(row, place)
    verdict = _verdict(row, place)
    _has_a_reason(row, scope, verdict, place)
    return Expectation(spell(scope.ranges), scope.ranges, verdict, _text(row, "because", place), scope.change)


def _range_keys(row: Row) -> str:
    """What tells an expectation from the others of its claim, for messages."""
    named = [f"{key} {row[key]!r}" for key in ("since", "before") if key in row]
    return f" {' '.join(named)}" if named else f" {row['kernels']!r}" if "kernels" in row else ""


def _by_name(row: Row, place: str) -> _Scope:
    """What is expected since, before, or between boundaries of the table."""
    named = {key: _boundary(row, key, place) for key in _BY_NAME if key in row}
    ranges = ALL
    if "since" in named:
        ranges = _of_the_kernel(named["since"], "since", place).ranges
    if "before" in named:
        ranges = intersect(ranges, outside(_of_the_kernel(named["before"], "before", place).ranges))
    if not ranges:
        raise ClaimError(f"{place} no kernel is in this range")
    cause = named.get("cause", named.get("since"))
    if cause is None or not (cause.subject or cause.tool):
        return _Scope(ranges, None)
    releases = ", ".join(cause.releases)
    return _Scope(ranges, Change(cause.commit, cause.subject, releases, cause.tool or "", boundary=cause.name))


def _boundary(row: Row, key: str, place: str) -> Boundary:
    name = _text(row, key, place)
    try:
        return boundary(name)
    except BadInput as error:
        raise ClaimError(f"{place} {key}: {error}") from None


def _of_the_kernel(named: Boundary, key: str, place: str) -> Boundary:
    if named.tool:
        raise ClaimError(
            f"{place} {key}: {named.name} is a change of {named.tool}, no boundary of kernels: use `cause`"
        )
    return named


def _written_out(row: Row, place: str) -> _Scope:
    """What is expected in a range that the file itself gives, with the commit that made it so."""
    if names := [key for key in _BY_NAME if key in row]:
        both = f"`{names[0]}` and `{next(key for key in _WRITTEN_OUT if key in row)}`"
        raise ClaimError(f"{place} has {both}: a boundary by its name, or kernels with a commit, not both")
    kernels = _text(row, "kernels", place)
    try:
        ranges = parse(kernels)
    except BadInput as error:
        raise ClaimError(f"{place} {error}") from None
    return _Scope(ranges, _change(row, place))


def _change(row: Row, place: str) -> Change | None:
    keys = row.keys() & {"commit", "subject", "release", "tool"}
    if not keys:
        return None
    release, tool = _text(row, "release", place), _text(row, "tool", place) if "tool" in row else ""
    if tool and not keys & {"commit", "subject"}:
        return Change("", "", release, tool)
    commit = _commit(row, place)
    if not tool:
        _check_release(release, place)
    return Change(commit, _text(row, "subject", place), release, tool)


def _check_release(release: str, place: str) -> None:
    try:
        KernelVersion.parse(release)
    except BadInput as error:
        raise ClaimError(f"{place} release: {error}") from None


def _commit(row: Row, place: str) -> str:
    commit = _text(row, "commit", place)
    if not _COMMIT.fullmatch(commit):
        raise ClaimError(f"{place} commit {commit!r} is not 12 to 40 hexadecimal digits")
    return commit


def _verdict(row: Row, place: str) -> Verdict:
    spelled = _text(row, "verdict", place)
    try:
        return Verdict(spelled)
    except ValueError:
        raise ClaimError(f"{place} verdict {spelled!r} is none of {', '.join(Verdict)}") from None


def _has_a_reason(row: Row, scope: _Scope, verdict: Verdict, place: str) -> None:
    """A verdict that could surprise names what made it so."""
    later = scope.ranges[0][0] > OLDEST
    if scope.change is None and (verdict is Verdict.REFUTED or later):
        reason = "it is refuted" if verdict is Verdict.REFUTED else "the range begins after 3.0"
        cure = "commit, subject and release" if "kernels" in row else "the name of a boundary, as `since` or `cause`,"
        raise ClaimError(f"{place} {reason}, so it needs {cure} of what made it so")
    if later and "kernels" in row and "tool" in row:
        raise ClaimError(f"{place} the range begins after 3.0: a commit of {row['tool']} is no boundary of kernels")


def _cover_everything(expectations: tuple[Expectation, ...], place: str) -> None:
    ordered = sorted(
        (
            (first, end, expected.kernels)
            for expected in expectations
            for first, end in expected.ranges
            if end is None or end > OLDEST
        ),
        key=lambda part: part[0],
    )
    reached: Release | None = OLDEST
    previous = ""
    for first, end, kernels in ordered:
        if reached is None or (previous and first < reached):
            raise ClaimError(f"{place} expectations {previous!r} and {kernels!r} overlap")
        if first > reached:
            raise ClaimError(f"{place} nothing is expected from {spell_release(reached)} up to {spell_release(first)}")
        reached, previous = end, kernels
    if reached is not None:
        raise ClaimError(f"{place} nothing is expected from {spell_release(reached)} on")


def _nearest(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, list(names), n=3, cutoff=0.5)
    return f"; the nearest: {', '.join(near)}" if near else ""


def _known_keys(row: Row, known: set[str], place: str) -> None:
    for key in row.keys() - known:
        raise ClaimError(f"{place} does not know {key!r}{_nearest(key, known)}")


def _text(row: Row, key: str, place: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ClaimError(f"{place} {key} must be given, as text that is not empty")
    return value


def _name(row: Row, key: str, place: str) -> str:
    name = _text(row, key, place)
    if not _NAME.fullmatch(name):
        raise ClaimError(f"{place} {key} {name!r} must be lower-case words joined by hyphens")
    return name


def _tables(row: Row, key: str, place: str) -> list[Row]:
    value = row.get(key)
    tables: list[Row] = [table for table in value if isinstance(table, dict)] if isinstance(value, list) else []
    if not tables or tables != value:
        raise ClaimError(f"{place} needs at least one [[{key}]] table")
    return tables
