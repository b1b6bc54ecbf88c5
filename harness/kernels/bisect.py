"""Where a verdict changed: the two neighbouring kernels of the catalogue between which it did, found by halving."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.claims.verdicts import verdict_of
from harness.errors import BadInput, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.kernels.catalogue import Kernel
    from harness.kernels.store import Stored


@dataclass(frozen=True)
class Boundary:
    """Two neighbours with different verdicts, and how many kernels were run to find them."""

    before: Kernel
    after: Kernel
    verdicts: tuple[str, str]
    runs: int


def halve(kernels: Sequence[Kernel], verdict: Callable[[Kernel], str]) -> Boundary:
    """The neighbours among kernels, oldest first, between which the verdict of the first one ends.

    BadInput if first and last have the same verdict: there may be no boundary between them, or several.
    """
    seen: dict[int, str] = {}

    def at(index: int) -> str:
        if index not in seen:
            seen[index] = verdict(kernels[index])
        return seen[index]

    low, high = 0, len(kernels) - 1
    if high < 1:
        raise BadInput("to find a boundary between kernels, name two that differ")
    if at(low) == at(high):
        raise BadInput(f"the verdict is {at(low)} on both {kernels[low].release} and {kernels[high].release}")
    while high - low > 1:
        middle = (low + high) // 2
        if at(middle) == at(low):
            low = middle
        else:
            high = middle
    return Boundary(kernels[low], kernels[high], (at(low), at(high)), len(seen))


def settle(claim: str, kernel: str, evidence: Path, scenarios: str = "scenarios") -> dict[str, Any]:
    """Run a claim's scenarios on a kernel; the claim's evidence. Unsupported, with pytest's end, if there is none."""
    argv = [sys.executable, "-m", "pytest", scenarios, "-q", "--claim", claim, "--kernel", kernel]
    ran = subprocess.run(
        [*argv, "--evidence", str(evidence)], check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    file = evidence / f"{claim}.json"
    if not file.exists():
        tail = "\n".join((ran.stdout + ran.stderr).strip().splitlines()[-8:])
        raise Unsupported(f"{claim} came to nothing on {kernel}:\n{tail}")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


class Runs:
    """The evidence of a claim on each kernel that was run, in a directory of this process."""

    def __init__(self, claim: str, fetch: Callable[[Kernel], Stored], say: Callable[[str], None]) -> None:
        self.claim = claim
        self._fetch = fetch
        self.evidence: dict[str, dict[str, Any]] = {}
        self._say = say
        self._directory = tempfile.TemporaryDirectory(prefix="harness-bisect-")

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()

    def verdict(self, kernel: Kernel) -> str:
        """Run the claim on a kernel, brought if it is not here: by its release it is then known without an archive."""
        self._fetch(kernel)
        place = Path(self._directory.name, kernel.release)
        self.evidence[kernel.release] = settle(self.claim, kernel.release, place)
        found = verdict_of(self.evidence[kernel.release])
        self._say(f"{kernel.version:<10} {kernel.release:<28} {found}")
        return found
