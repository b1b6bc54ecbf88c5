"""`harness bisect`: the two neighbouring kernels between which the verdict of a claim changes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.archive import archive_options
from harness.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.kernels.catalogue import Kernel
    from harness.kernels.selection import Selection
    from harness.kernels.store import Stored


@click.command()
@click.argument("claim")
@click.option("--from", "first", required=True, metavar="KERNEL", help="where it has one verdict: 5.10")
@click.option("--to", "last", required=True, metavar="KERNEL", help="where it has another: 7.3")
@click.option("--every", is_flag=True, help="between all releases, not only the newest of each series")
@archive_options
def bisect(claim: str, first: str, last: str, every: bool, selection: Selection) -> None:
    """Find the two neighbouring kernels between which the verdict of CLAIM changes."""
    from harness.claims.verdicts import side_by_side
    from harness.kernels import halving

    with Runs(claim, selection.fetch, click.echo) as runs:
        neighbours = halving.halve(_between(first, last, selection, every=every), runs.verdict)
        (before, after), (old, new) = neighbours.verdicts, (neighbours.before.release, neighbours.after.release)
        click.echo(f"{claim}: {before} on {old}, {after} on {new}")
        for line in side_by_side(runs.evidence[old], runs.evidence[new]):
            click.echo(f"  {line}")


def _between(first: str, last: str, selection: Selection, *, every: bool) -> list[Kernel]:
    """The two kernels and those between them, oldest first."""
    from harness.kernels import catalogue

    kernels = selection.all()
    ends = [selection.choose([word])[0] for word in (first, last)]
    low, high = sorted(kernel.order for kernel in ends)
    candidates = kernels if every else catalogue.newest_of_each_series([*kernels])
    between = {kernel for kernel in candidates if low < kernel.order < high}
    return sorted({*between, *ends}, key=lambda kernel: kernel.order)


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
        from harness.claims.verdicts import verdict_of

        self._fetch(kernel)
        place = Path(self._directory.name, kernel.release)
        self.evidence[kernel.release] = settle(self.claim, kernel.release, place)
        verdict = verdict_of(self.evidence[kernel.release])
        self._say(f"{kernel.version:<10} {kernel.release:<28} {verdict}")
        return verdict


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
    whole: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return whole
