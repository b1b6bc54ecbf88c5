"""`harness bisect`: the two neighbouring kernels between which the verdict of a claim changes; or of all claims."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import walking
from harness.cli.archive import archive_options
from harness.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.kernels.catalogue import Kernel
    from harness.kernels.selection import Selection
    from harness.kernels.store import Stored

SCENARIOS = Path("scenarios")


@click.command()
@click.argument("claim", required=False)
@click.option("--from", "first", metavar="KERNEL", help="where it has one verdict: 5.10")
@click.option("--to", "last", metavar="KERNEL", help="where it has another: 7.3")
@click.option("--every", is_flag=True, help="between all releases, not only the newest of each series")
@click.option("--all", "everything", is_flag=True, help="walk every claim over all kernels at hand")
@click.option("--kernel", "kernels", multiple=True, metavar="KERNEL", help="with --all: on this kernel (repeatable)")
@click.option(
    "--evidence", multiple=True, metavar="DIR", type=click.Path(path_type=Path), help="with --all: what has run already"
)
@click.option(
    "--keep", default=walking.KEPT, show_default=True, metavar="DIR", type=click.Path(path_type=Path),
    help="with --all: where what runs now is kept, and found again",
)  # fmt: skip
@click.option("--claim", "claims", multiple=True, metavar="CLAIM", help="with --all: this claim or group (repeatable)")
@click.option(
    "--scenarios", default=SCENARIOS, show_default=True, metavar="DIR", type=click.Path(path_type=Path),
    help="what is run",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="with --all: for machines")
@archive_options
@click.pass_context
def bisect(
    context: click.Context,
    *,
    claim: str | None,
    first: str | None,
    last: str | None,
    every: bool,
    everything: bool,
    kernels: tuple[str, ...],
    evidence: tuple[Path, ...],
    keep: Path,
    claims: tuple[str, ...],
    scenarios: Path,
    as_json: bool,
    selection: Selection,
) -> None:
    """Find the two neighbouring kernels between which the verdict of CLAIM changes.

    With --all: run every claim on the kernels named, or on those of the cache, unless there is evidence of it already,
    and say of each boundary whether the evidence confirms it, contradicts it, or whether no kernel lies beyond it.
    """
    if everything:
        if claim or first or last:
            raise click.UsageError("--all walks every claim: leave CLAIM, --from and --to out, or use --claim")
        question = walking.Walking(kernels, evidence, claims, scenarios, keep, selection)
        context.exit(walking.answer(question, as_json=as_json))
    if not (claim and first and last):
        raise click.UsageError("name CLAIM, --from KERNEL and --to KERNEL; or --all")
    _halve(claim, first, last, selection, every=every, scenarios=scenarios)


def _halve(claim: str, first: str, last: str, selection: Selection, *, every: bool, scenarios: Path) -> None:
    """Say between which two neighbours the verdict changes, and what else does."""
    from harness.kernels import halving
    from harness.report.comparison import lines

    with Runs(claim, selection.fetch, click.echo, scenarios) as runs:
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

    def __init__(
        self, claim: str, fetch: Callable[[Kernel], Stored], say: Callable[[str], None], scenarios: Path = SCENARIOS
    ) -> None:
        self.claim = claim
        self._scenarios = scenarios
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
        settle(self.claim, kernel.release, Path(self._directory.name), self._scenarios)
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


def settle(claim: str, release: str, directory: Path, scenarios: Path = SCENARIOS) -> None:
    """Run a claim's scenarios on a kernel, into a directory of its name.

    Unsupported, with pytest's last words, if they did not run to their end.
    """
    from harness.cli.settling import sessions

    with sessions([(release, release)], directory, scenarios=scenarios, claims=[claim]) as (session,):
        if shortfall := session.shortfall():
            tail = "\n".join(session.last_words(8))
            raise Unsupported(f"{claim} came to nothing: {shortfall}\n{tail}")
