"""Where the kernel's behaviour changed: boundaries.toml as a table, and the question on which side a kernel is.

    from harness.laws import before, since

    refused = since("accept-queue-full-drops-syns")

A kernel is on the new side if its release is the first mainline one with the commit, or later; or if the commit went to
the stable series that it belongs to, in its point release or an earlier one. A release candidate counts as its release.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harness.errors import BadInput
from harness.laws.kernel import KernelVersion, running

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.laws.kernel import Release

TABLE = Path(__file__).with_name("boundaries.toml")
# Ranges of releases [first, end), in order, apart from each other; no end: for good.
Ranges = tuple[tuple["Release", "Release | None"], ...]


@dataclass(frozen=True)
class Boundary:
    """A change of behaviour: what made it, from which release on, and how it is known.

    It is the kernel's, or that of a `tool`, whose commit and subject can be empty, or only the word of a `document`.
    `seen` are two kernels that the suite was run on and that differ in it, (before, after); without them the change
    was read in the sources.
    """

    name: str
    release: str
    changed: str
    commit: str = ""
    subject: str = ""
    stable: tuple[str, ...] = ()
    seen: tuple[str, str] | None = None
    tool: str | None = None
    document: str | None = None

    @property
    def ranges(self) -> Ranges:
        """The kernels on its new side; all of them if it is no change of the kernel's."""
        if self.tool:
            return (((0, 0, 0), None),)
        mainline = KernelVersion.parse(self.release).release
        starts = sorted(KernelVersion.parse(point).release for point in self.stable)
        ends = [(major, minor + 1, 0) for major, minor, _ in starts]
        return _joined([*zip(starts, ends, strict=True), (mainline, None)])

    def holds_on(self, kernel: KernelVersion) -> bool:
        """Whether a kernel is on the new side."""
        return within(kernel, self.ranges)


def within(kernel: KernelVersion, ranges: Ranges) -> bool:
    """Whether a kernel is in one of the ranges."""
    return any(first <= kernel.release and (end is None or kernel.release < end) for first, end in ranges)


def boundary(name: str) -> Boundary:
    """The boundary of that name; BadInput, with the nearest names, if there is none."""
    if name in BOUNDARIES:
        return BOUNDARIES[name]
    from difflib import get_close_matches

    near = get_close_matches(name, BOUNDARIES, n=3, cutoff=0.4)
    nearest = f"; the nearest: {', '.join(near)}" if near else ""
    raise BadInput(f"no boundary is named {name!r} in {TABLE.name}{nearest}")


def since(name: str, kernel: KernelVersion | None = None) -> bool:
    """Whether a kernel, the running one unless given, has the change of that name."""
    return boundary(name).holds_on(kernel or running())


def before(name: str, kernel: KernelVersion | None = None) -> bool:
    """Whether a kernel, the running one unless given, lacks the change of that name."""
    return not since(name, kernel)


def _joined(ranges: Iterable[tuple[Release, Release | None]]) -> Ranges:
    """The ranges with those that touch made one: 6.12.10 to 6.13 and 6.13 on are 6.12.10 on."""
    joined: list[tuple[Release, Release | None]] = []
    for first, end in ranges:
        if joined and joined[-1][1] == first:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((first, end))
    return tuple(joined)


def _boundary(name: str, row: dict[str, Any]) -> Boundary:
    stable, seen = tuple(row.pop("stable", ())), row.pop("seen", None)
    return Boundary(name=name, stable=stable, seen=seen and (seen[0], seen[1]), **row)


def _read() -> Mapping[str, Boundary]:
    with TABLE.open("rb") as file:
        return MappingProxyType({name: _boundary(name, row) for name, row in tomllib.load(file).items()})


BOUNDARIES = _read()
