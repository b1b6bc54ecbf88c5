"""Sets of kernel releases: ranges [first, end), what two of them have in common, what is outside, and as text.

In text a range is written as for packages, `>=4.10`, `<5.4`, `>=4.10,<5.4` or `==4.19.*`; `5.10.234+` is what a stable
series has from a point release on (5.10.234 and later ones of 5.10). ` or ` stands between ranges, and `all` is every
kernel.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.errors import BadInput
from harness.laws.kernel import KernelVersion, Release

if TYPE_CHECKING:
    from collections.abc import Iterable

# In order and apart from each other; no end: for good.
Ranges = tuple[tuple[Release, Release | None], ...]

FIRST: Release = (0, 0, 0)
ALL: Ranges = ((FIRST, None),)
_EVERY = "all"
_OR = re.compile(r"\s+or\s+")
_SERIES_FROM = re.compile(r"(\d+\.\d+\.\d+)\+")


def within(kernel: KernelVersion, ranges: Ranges) -> bool:
    """Whether a kernel is in one of the ranges."""
    return any(first <= kernel.release and (end is None or kernel.release < end) for first, end in ranges)


def series_from(point: str) -> tuple[Release, Release]:
    """What a stable series has from a point release on: 5.10.234 up to 5.11."""
    release = KernelVersion.parse(point).release
    return release, (release[0], release[1] + 1, 0)


def join(ranges: Iterable[tuple[Release, Release | None]]) -> Ranges:
    """All that is in one of the ranges."""
    joined: list[tuple[Release, Release | None]] = []
    for first, end in sorted(ranges, key=lambda pair: pair[0]):
        if not joined or _after(first, joined[-1][1]):
            joined.append((first, end))
        else:
            joined[-1] = (joined[-1][0], _later(joined[-1][1], end))
    return tuple(joined)


def intersect(some: Ranges, others: Ranges) -> Ranges:
    """What two sets have in common."""
    pairs = (
        (max(first, other_first), _earlier(end, other_end)) for first, end in some for other_first, other_end in others
    )
    return tuple(sorted(((first, end) for first, end in pairs if end is None or first < end), key=lambda pair: pair[0]))


def outside(ranges: Ranges) -> Ranges:
    """Every kernel that is in none of the ranges."""
    left: list[tuple[Release, Release | None]] = []
    reached: Release | None = FIRST
    for first, end in ranges:
        if reached is not None and reached < first:
            left.append((reached, first))
        reached = end
    return (*left, (reached, None)) if reached is not None else tuple(left)


def spell(ranges: Ranges) -> str:
    """The ranges as text, which parse() understands."""
    return " or ".join(_spell_range(first, end) for first, end in ranges)


def spell_release(release: Release) -> str:
    """5.10 or 5.10.234."""
    major, minor, patch = release
    return f"{major}.{minor}.{patch}" if patch else f"{major}.{minor}"


def parse(text: str) -> Ranges:
    """The ranges of a text; BadInput if it is none."""
    return join(_parse_range(part) for part in _OR.split(text.strip()))


def _spell_range(first: Release, end: Release | None) -> str:
    if end is None:
        return f">={spell_release(first)}" if first > FIRST else _EVERY
    if first[2] and end == (first[0], first[1] + 1, 0):
        return f"{spell_release(first)}+"
    return f">={spell_release(first)},<{spell_release(end)}" if first > FIRST else f"<{spell_release(end)}"


def _parse_range(text: str) -> tuple[Release, Release | None]:
    """One range as first release in and first release out."""
    if text == _EVERY:
        return FIRST, None
    if match := _SERIES_FROM.fullmatch(text):
        return series_from(match[1])
    first, end = FIRST, None
    for operator, version in _specifiers(text):
        release = _release(version.removesuffix(".*"))
        if operator == ">=":
            first = max(first, release)
        elif operator == "<":
            end = _earlier(end, release)
        elif operator == "==" and version.endswith(".*"):
            first, end = release, _next_series(version, release)
        else:
            raise BadInput(f"write a range with >= and < (or ==4.19.*), not {operator}")
    if end is not None and end <= first:
        raise BadInput("the range is empty")
    return first, end


def _specifiers(text: str) -> list[tuple[str, str]]:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return [(specifier.operator, specifier.version) for specifier in SpecifierSet(text)]
    except InvalidSpecifier:
        raise BadInput("not a range of versions; write it like '>=4.10,<5.4'") from None


def _release(version: str) -> Release:
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9}){0,2}", version, re.ASCII):
        raise BadInput(f"{version!r} is not a release: write one to three numbers, like 5.10.234")
    major, minor, patch = ([int(number) for number in version.split(".")] + [0, 0])[:3]
    return major, minor, patch


def _next_series(version: str, release: Release) -> Release:
    """The first release that 4.* or 4.19.* does not mean."""
    major, minor, _ = release
    return (major, minor + 1, 0) if version.count(".") > 1 else (major + 1, 0, 0)


def _after(first: Release, end: Release | None) -> bool:
    return end is not None and first > end


def _earlier(end: Release | None, other: Release | None) -> Release | None:
    return min((each for each in (end, other) if each is not None), default=None)


def _later(end: Release | None, other: Release | None) -> Release | None:
    return None if end is None or other is None else max(end, other)
