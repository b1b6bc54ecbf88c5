"""Where the kernel's behaviour changed: boundaries.toml as a table, and the question on which side a kernel is.

    from harness.laws import before, since

    refused = since("accept-queue-full-drops-syns")

A kernel is on the new side if its release is the first mainline one with the commit, or later; or if the commit went to
the stable series that it belongs to, in its point release or an earlier one. A release candidate counts as its release.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from harness.errors import BadInput
from harness.laws.kernel import KernelVersion, running
from harness.laws.releases import ALL, join, parse, series_from, within

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.laws.releases import Ranges

TABLE = Path(__file__).with_name("boundaries.toml")


class Boundary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change of behaviour: what made it, from which release on, and how it is known.

    It is the kernel's, and where no source at hand has the commit's hash, its subject alone says what it is; or that of
    a `tool`, whose commit and subject can be empty; or only the word of a `document`, on which no claim can rest.
    `seen` are two kernels that the suite was run on and that differ in it, (before, after); without them the change
    was read in the sources, and `read` are two whose whole sources were. `uncertain` are stable series, "5.15", or
    ranges of one, of which it is not known whether it went there; they count as if it had not.
    """

    name: str
    release: str
    changed: str
    commit: str = ""
    subject: str = ""
    stable: tuple[str, ...] = ()
    uncertain: tuple[str, ...] = ()
    seen: tuple[str, str] | None = None
    read: tuple[str, str] | None = None
    tool: str | None = None
    document: str | None = None

    @property
    def ranges(self) -> Ranges:
        """The kernels on its new side; all of them if it is no change of the kernel's."""
        if self.tool:
            return ALL
        return join([*map(series_from, self.stable), (KernelVersion.parse(self.release).release, None)])

    @property
    def releases(self) -> tuple[str, ...]:
        """Every release that it came with: the point releases, then the mainline one, or the program's."""
        return (*self.stable, self.release)

    def holds_on(self, kernel: KernelVersion) -> bool:
        """Whether a kernel is on the new side."""
        return within(kernel, self.ranges)

    def uncertain_on(self, kernel: KernelVersion) -> bool:
        """Whether that is not known of a kernel."""
        ranges = (text if text.startswith(">") else f"=={text}.*" for text in self.uncertain)
        return any(within(kernel, parse(text)) for text in ranges)


def boundary(name: str) -> Boundary:
    """The boundary of that name; BadInput, with the nearest names, if there is none."""
    if name in BOUNDARIES:
        return BOUNDARIES[name]
    from difflib import get_close_matches

    near = get_close_matches(name, BOUNDARIES, n=3, cutoff=0.4)
    cure = f"the nearest: {', '.join(near)}" if near else "see there what there is, or add it"
    raise BadInput(f"no boundary of harness/laws/{TABLE.name} is named {name!r}; {cure}")


def since(name: str, kernel: KernelVersion | None = None) -> bool:
    """Whether a kernel, the running one unless given, has the change of that name."""
    entry = boundary(name)
    _asked.add(name)
    return entry.holds_on(kernel or running())


def before(name: str, kernel: KernelVersion | None = None) -> bool:
    """Whether a kernel, the running one unless given, lacks the change of that name."""
    return not since(name, kernel)


def asked() -> frozenset[str]:
    """The boundaries that anybody in this process has asked for since forget_asked()."""
    return frozenset(_asked)


def forget_asked() -> None:
    """What is asked from here on is what a run depends on."""
    _asked.clear()


def uncertain(name: str, kernel: KernelVersion | None = None) -> bool:
    """Whether a kernel is of a stable series of which nobody here knows if the change went to it."""
    return boundary(name).uncertain_on(kernel or running())


def _read() -> Mapping[str, Boundary]:
    with TABLE.open("rb") as file:
        rows = {name: {"name": name, **row} for name, row in tomllib.load(file).items()}
    return MappingProxyType(msgspec.convert(rows, dict[str, Boundary]))


BOUNDARIES = _read()
_asked: set[str] = set()
