"""`harness bisect`: the two neighbouring kernels between which the verdict of a claim changes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

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
    from harness.kernels import halving
    from harness.report.comparison import lines

    with Runs(claim, selection.fetch, click.echo) as runs:
        neighbours = halving.halve(_between(first, last, selection, every=every), runs.verdict)
        (before, after), (old, new) = neighbours.verdicts, (neighbours.before.release, neighbours.after.release)
        click.echo(f"{claim}: {before} on {old}, {after} on {new}")
        for line in lines.printable(runs.differences(old, new)):
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
        self._say = say
        self._directory = tempfile.TemporaryDirectory(prefix="harness-bisect-")

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()

    def verdict(self, kernel: Kernel) -> str:
        """Run the claim on a kernel, brought if it is not here: by its release it is then known without an archive."""
        from harness.claims.verdicts import verdict_of
        from harness.evidence.codec import read_directory

        self._fetch(kernel)
        place = Path(self._directory.name, kernel.release)
        settle(self.claim, kernel.release, Path(self._directory.name))
        verdict = verdict_of(run for file in read_directory(place).files for run in file.runs)
        self._say(f"{kernel.version:<10} {kernel.release:<28} {verdict}")
        return verdict

    def differences(self, before: str, after: str) -> list[str]:
        """What was measured differently on two kernels that were run, a line each."""
        from harness.report.comparison.changes import changes
        from harness.report.comparison.lines import difference_line
        from harness.report.comparison.sides import pairs
        from harness.report.table import read

        places = [Path(self._directory.name, release) for release in (before, after)]
        (sides,), _ = pairs(read(places), *places)
        return [
            f"{test.test}  {difference_line(difference)}"
            for claim in changes(sides).claims
            for test in claim.tests
            for difference in test.changed
        ]


def settle(claim: str, release: str, directory: Path, scenarios: Path = Path("scenarios")) -> None:
    """Run a claim's scenarios on a kernel, into a directory of its name.

    Unsupported, with pytest's last words, if they did not run to their end.
    """
    from harness.cli.settling import sessions

    with sessions([(release, release)], directory, scenarios=scenarios, claims=[claim]) as (session,):
        if shortfall := session.shortfall():
            tail = "\n".join(session.last_words(8))
            raise Unsupported(f"{claim} came to nothing: {shortfall}\n{tail}")
