"""`harness bisect`: the two neighbouring kernels between which the verdict of a claim changes; or of all claims."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from packaging.version import Version

from harness import files
from harness.cli import walking
from harness.cli.archive import archive_options
from harness.cli.machine import machine_options
from harness.cli.notes import note
from harness.cli.question import as_named
from harness.errors import BadInput, Unsupported
from harness.scenarios import WHERE, place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.cli.machine import Machine
    from harness.kernels.catalogue import Kernel
    from harness.kernels.selection import Selection
    from harness.kernels.store import Stored

SCENARIOS = Path("scenarios")


@click.command()
@click.argument("claim", required=False)
@click.option("--from", "first", metavar="KERNEL", help="a kernel with the old verdict: 5.10, an image, a built tree")
@click.option("--to", "last", metavar="KERNEL", help="a kernel with the new verdict: 7.3, an image, a built tree")
@click.option("--every", is_flag=True, help="try all releases, not only the newest of each series")
@click.option("--all", "everything", is_flag=True, help="walk every claim over all kernels at hand")
@click.option("--kernel", "kernels", multiple=True, metavar="KERNEL", help="with --all: on this kernel (repeatable)")
@click.option(
    "--evidence",
    multiple=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="with --all: evidence of earlier runs",
)
@click.option(
    "--keep", show_default=f"{walking.KEPT}; of a machine that is described, a directory beside it", metavar="DIR",
    type=click.Path(path_type=Path), help="with --all: keep the evidence of this run there, and use it next time",
)  # fmt: skip
@click.option("--claim", "claims", multiple=True, metavar="CLAIM", help="with --all: this claim or group (repeatable)")
@click.option(
    "--scenarios", default=place, show_default=WHERE, metavar="DIR", type=click.Path(path_type=Path),
    help="the scenarios to run",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="with --all: print JSON")
@machine_options
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
    keep: Path | None,
    claims: tuple[str, ...],
    scenarios: Path,
    as_json: bool,
    machine: Machine,
    selection: Selection,
) -> None:
    """Find the two neighbouring kernels between which CLAIM changes its verdict.

    If an end is an image or a tree, its version says where it stands among the archive's kernels. Between two images
    lie commits: `git bisect run harness check` walks them.

    With --all: run every claim on the kernels named, or on those of the cache, unless there is evidence of it already,
    and say of each boundary whether the evidence confirms it, contradicts it, or whether no kernel lies beyond it.
    """
    if everything:
        if claim or first or last:
            raise click.UsageError("--all walks every claim: leave CLAIM, --from and --to out, or use --claim")
        kept = keep or walking.kept_of(machine)
        question = walking.Walking(kernels, evidence, claims, scenarios, kept, selection, machine)
        context.exit(walking.answer(question, as_json=as_json))
    if not (claim and first and last):
        raise click.UsageError("name CLAIM, --from KERNEL and --to KERNEL; or --all")
    _halve(claim, (first, last), selection, every=every, scenarios=scenarios, how=machine.words)


def _halve(
    claim: str, ends: tuple[str, str], selection: Selection, *, every: bool, scenarios: Path, how: Sequence[str]
) -> None:
    """Say between which two neighbours the verdict changes, and what else does."""
    from harness.kernels import halving
    from harness.report.comparison import lines

    with Runs(claim, selection.fetch, click.echo, scenarios, how) as runs:
        neighbours = halving.halve(_between(*ends, selection, every=every), runs.verdict, lambda step: step.name)
        (before, after), (old, new) = neighbours.verdicts, (neighbours.before, neighbours.after)
        click.echo(f"{claim}: {before} on {old.name}, {after} on {new.name}")
        for line in lines.printable(runs.differences(old, new)):
            click.echo(f"  {line}")
        if old.kernel is None or new.kernel is None:
            note("to find the commit between them: git bisect run harness check TREE --claim; see docs/trees.md")


@dataclass(frozen=True)
class Step:
    """A kernel on the way: its version, its name, and what --kernel takes for it.

    `kernel` is the archive's, which may have to be brought; None for one that the user has.
    """

    version: str
    name: str
    word: str
    kernel: Kernel | None = None

    @property
    def order(self) -> tuple[Version, tuple[int, ...]]:
        """What sorts it among those of the archive."""
        return self.kernel.order if self.kernel else (Version(self.version), ())


def _between(first: str, last: str, selection: Selection, *, every: bool) -> list[Step]:
    """The two kernels and the archive's between them, oldest first.

    Between two that the user has the archive knows nothing: those two alone, in this order.
    """
    from harness.kernels import catalogue

    ends = _ends(first, last, selection)
    if not any(end.kernel for end in ends):
        return list(dict.fromkeys(ends))
    low, high = sorted(end.order for end in ends)
    kernels = selection.all()
    candidates = kernels if every else catalogue.newest_of_each_series([*kernels])
    steps = {_of_the_archive(kernel) for kernel in candidates if low < kernel.order < high}
    return sorted({*steps, *ends}, key=lambda step: step.order)


def _ends(first: str, last: str, selection: Selection) -> list[Step]:
    """What --from and --to mean: kernels of the archive, images and trees."""
    from harness.kernels.targets import Built, Wanted, Ways, parse, told_apart
    from harness.vagrant import reach

    ways = Ways(lambda: selection, lambda machine, python: reach.host(machine, Path.cwd(), python))
    with as_named():
        meanings = [parse(word, ways)[0] for word in (first, last)]
    names = {target: target.name for target in told_apart([each for each in meanings if isinstance(each, Built)])}
    steps = []
    for meaning in meanings:
        if isinstance(meaning, Wanted):
            steps.append(_of_the_archive(selection.choose([meaning.text])[0]))
        elif isinstance(meaning, Built):
            name = names[meaning]
            # A build says more of itself by its release: 6.11.0-rc3+.
            steps.append(Step(meaning.version, meaning.release if name == meaning.version else name, meaning.path))
        else:
            raise BadInput("--from and --to take kernels of the archive, images and trees: 6.12, path/to/bzImage")
    return steps


def _of_the_archive(kernel: Kernel) -> Step:
    return Step(kernel.version, kernel.release, kernel.release, kernel)


class Runs:
    """The evidence of a claim on each kernel that was run, in a directory of this process."""

    def __init__(
        self,
        claim: str,
        fetch: Callable[[Kernel], Stored],
        say: Callable[[str], None],
        scenarios: Path = SCENARIOS,
        how: Sequence[str] = (),
    ) -> None:
        self.claim = claim
        self._scenarios = scenarios
        self._how = how
        self._fetch = fetch
        self._say = say
        self._kept = ExitStack()
        self._directory = self._kept.enter_context(files.folder("harness-bisect-"))

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()

    def verdict(self, step: Step) -> str:
        """Run the claim on a kernel, brought if it is not here: by its release it is then known without an archive."""
        from harness.claims.verdicts import verdict_of
        from harness.evidence.codec import read_directory

        if step.kernel is not None:
            self._fetch(step.kernel)
        settle(self.claim, step, self._directory, self._scenarios, self._how)
        verdict = verdict_of(run for file in read_directory(self._place(step)).files for run in file.runs)
        self._say(f"{step.version:<10} {step.name:<28} {verdict}")
        return verdict

    def differences(self, before: Step, after: Step) -> list[str]:
        """What was measured differently on two kernels that were run, a line each."""
        from harness.report.comparison.changes import changes
        from harness.report.comparison.lines import difference_line
        from harness.report.comparison.sides import pairs
        from harness.report.table import read

        places = [self._place(step) for step in (before, after)]
        (sides,), _ = pairs(read(places), *places)
        return [
            f"{test.test}  {difference_line(difference)}"
            for claim in changes(sides).claims
            for test in claim.tests
            for difference in test.changed
        ]

    def _place(self, step: Step) -> Path:
        return self._directory / step.name


def settle(claim: str, step: Step, directory: Path, scenarios: Path = SCENARIOS, how: Sequence[str] = ()) -> None:
    """Run a claim's scenarios on a kernel, into a directory of its name; `how` are more words for pytest.

    Unsupported, with pytest's last words, if they did not run to their end.
    """
    from harness.cli.settling import Chosen, sessions

    with sessions([Chosen(step.name, step.word, how)], directory, scenarios=scenarios, claims=[claim]) as (session,):
        if shortfall := session.shortfall():
            tail = "\n".join(session.last_words(8))
            raise Unsupported(f"{claim} came to nothing: {shortfall}\n{tail}")
