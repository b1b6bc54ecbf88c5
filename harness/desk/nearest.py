"""The kernel that is nearest to a machine's: the running one, another of its series, or the next that can be had."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.desk.scale import harmless
from harness.errors import BadInput, HarnessError
from harness.kernels.targets import SSH, VAGRANT, Running
from harness.laws.boundaries import boundary
from harness.laws.kernel import running

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.kernels.selection import Selection
    from harness.laws.kernel import KernelVersion

SAFE = re.compile(r"[A-Za-z0-9._/~@:<>=,+-]+")
# The newest series before a boundary that a symptom needs to be before.
LAST_BEFORE = {"tw-recycle-is-gone": "4.9"}


@dataclass(frozen=True)
class Nearest:
    """A kernel, as pytest's --tcp-kernel takes it ("" for the running one, without it), and why it is this one."""

    word: str
    why: str

    def command(self, file: str) -> str:
        """What one types to run a scenario on it."""
        return shlex.join(["pytest", file, *(["--tcp-kernel", self.word] if self.word else [])])


def nearest(
    machine: KernelVersion | None, wanted: str | None, before: str, selection: Callable[[], Selection]
) -> Nearest:
    """The kernel for a machine's scenario: the one that is `wanted`, if any.

    `before` names a boundary that the kernel has to be before, "" for none. The archive is asked only where the running
    kernel is of another series; where it does not answer, the cache has to do. BadInput for a kernel file that is not
    there.
    """
    if wanted is not None:
        return _named(wanted)
    if before and (machine is None or boundary(before).holds_on(machine)):
        series = LAST_BEFORE[before]
        return Nearest(
            series, f"the symptom needs a kernel before {boundary(before).release}, and {series} is the last"
        )
    if machine is None:
        return Nearest("", "no file names the machine's kernel, so the running one has to do")
    series = _series(machine)
    if series == _series(running()):
        return Nearest("", f"the running one, {running()}, is of the machine's series")
    there = _at_hand(selection())
    if series in there or before:
        return Nearest(series, f"{series} is the machine's series")
    closest = min([*there, _series(running())], key=lambda each: abs(_order(each) - _order(series)))
    word = "" if closest == _series(running()) else closest
    return Nearest(word, f"{series}, the machine's series, cannot be had here, and {closest} is the nearest that can")


def _named(wanted: str) -> Nearest:
    """What the user asked for; it goes into a scenario, so it may have no letter that is more than read there."""
    if not SAFE.fullmatch(wanted):
        raise BadInput(f"--kernel: {harmless(wanted)!r} is no name for a kernel")
    path = wanted.partition(",")[0]
    if "/" in path and not path.startswith((SSH, VAGRANT)) and not Path(path).exists():
        raise BadInput(f"--kernel: {path} is not there")
    return Nearest("" if wanted == Running.NAME else wanted, "it was asked for")


def _at_hand(selection: Selection) -> list[str]:
    """The series that can be had, of the archive and the cache."""
    try:
        kernels = selection.all()
    except HarnessError:
        kernels = selection.cached
    return list(dict.fromkeys(kernel.series for kernel in kernels))


def _series(version: KernelVersion) -> str:
    return f"{version.release[0]}.{version.release[1]}"


def _order(series: str) -> int:
    major, minor = (int(word) for word in series.split("."))
    return 100 * major + minor
