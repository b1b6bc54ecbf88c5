"""`harness compare`: what differs between two kernels, or between two runs."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness import files
from harness.cli.archive import archive_options
from harness.cli.machine import machine_options
from harness.cli.notes import note
from harness.cli.question import DIFFERENT, SAME, USAGE, Question, is_evidence, target
from harness.errors import BadInput
from harness.scenarios import WHERE, place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.cli.machine import Machine
    from harness.kernels.selection import Selection
    from harness.kernels.targets import Target
    from harness.report.comparison.sides import Sides

# Two directories were compared byte for byte before.
EXACTLY = "this is what changed; byte for byte, as before: harness compare --exact {} {}"


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--verdicts", "mode", flag_value="verdicts", help="compare the verdicts alone, not the measurements")
@click.option(
    "--exact", "mode", flag_value="exact", help="two runs on the same kernel, byte for byte but for stamps; packets too"
)
@click.option(
    "--facts", "mode", flag_value="facts", help="compare sysctls and counters of two kernels; run no scenario"
)
@click.option(
    "--evidence",
    multiple=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="A and B are kernels in this evidence (repeatable); run no scenario",
)
@click.option(
    "--scenarios",
    default=place,
    show_default=WHERE,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="the scenarios to run",
)
@click.option("--claim", "claims", multiple=True, metavar="CLAIM", help="compare this claim or group only (repeatable)")
@click.option("--json", "as_json", is_flag=True, help="print everything that differs as JSON")
@click.option("--page", metavar="FILE", help="write what changed as a page, - for standard output")
@click.option("--all", "every", is_flag=True, help="list every difference of --exact, not only the first of a claim")
@machine_options
@archive_options
@click.pass_context
def compare(
    context: click.Context,
    *,
    a: str,
    b: str,
    mode: str | None,
    evidence: tuple[Path, ...],
    scenarios: Path,
    claims: tuple[str, ...],
    as_json: bool,
    page: str | None,
    every: bool,
    machine: Machine,
    selection: Selection,
) -> None:
    """Compare two kernels, or two runs.

    A and B are kernels, on which the scenarios run now, or directories with evidence.

    A kernel is whatever pytest's --tcp-kernel takes: 6.12, running, path/to/bzImage, a built kernel tree, ssh:HOST.
    The machines of both are as --guest-memory and the like say.
    Exit code 0 if nothing differs, 1 if something does, 2 for bad input and if a side did not run, or not all of it.
    """
    question = Question(
        (a, b), mode or "changes", evidence, scenarios, claims, as_json, page, every, selection, machine
    )  # fmt: skip
    if page and question.mode != "changes":
        raise click.UsageError(f"--page shows what changed, not --{question.mode}")
    context.exit(answer(question))


def answer(question: Question) -> int:
    """Compare, print or write the answer; the exit code."""
    from harness.report.output import refuse

    refuse(question.page)
    if question.mode == "facts":
        from harness.cli.facts import compare_facts

        return compare_facts(question)
    with ExitStack() as stack:
        pairs, missing = _pairs(question, stack)
        return _tell(question, pairs, missing)


def _pairs(question: Question, stack: ExitStack) -> tuple[list[Sides], list[str]]:
    """The columns to compare, and a line for each thing that did not run."""
    from harness.report.comparison.sides import Sides, choose, pairs
    from harness.report.table import read

    claims = question.claims or None
    if question.evidence:
        _nothing_is_started(question, "A and B are kernels of evidence")
        table = read(question.evidence, claims=claims)
        sides = Sides(table, *(choose(table, word) for word in question.words))
        if sides.before == sides.after:
            raise BadInput(f"{' '.join(question.words)}: both are {sides.before.label}; name two")
        return [sides], [f"not all can be read: {notice}" for notice in table.notices]
    places, missing = _places(question, stack)
    table = read(places, claims=claims)
    columns, alone = pairs(table, *places)
    return columns, [*missing, *alone, *(f"not all can be read: {notice}" for notice in table.notices)]


def _places(question: Question, stack: ExitStack) -> tuple[list[Path], list[str]]:
    """The directories with evidence, after the kernels among the words were run; a line for each that ran not whole."""
    stored = [is_evidence(word) for word in question.words]
    if all(stored):
        _nothing_is_started(question, "A and B are directories with evidence")
        return [Path(word) for word in question.words], []
    targets = [None if there else target(word, question) for word, there in zip(question.words, stored, strict=True)]
    if not files.there_is(question.scenarios):
        raise BadInput(f"{question.scenarios}: there are no scenarios here; name their directory with --scenarios")
    directory = stack.enter_context(files.folder("harness-compare-"))
    from harness.cli.settling import Chosen, sessions

    kernels = [each for each in targets if each is not None]
    if question.machine:
        question.machine.is_had_by(kernels)
    if question.selection:
        question.selection.is_no_use(" and ".join(question.words))
    chosen = [
        Chosen(each.name, word_of(each), question.machine.words_for(each) if question.machine else ())
        for each in kernels
    ]
    note(f"running {question.scenarios} on {' and '.join(each.name for each in chosen)}")
    with sessions(chosen, directory, scenarios=question.scenarios, claims=question.claims) as running:
        missing = [line for session in running if (line := session.shortfall())]
        if missing and not all(any(session.evidence.glob("*.json")) for session in running):
            raise BadInput("; ".join(dict.fromkeys(missing)))
        run = iter([session.evidence for session in running])
    return [Path(word) if there else next(run) for word, there in zip(question.words, stored, strict=True)], missing


def _nothing_is_started(question: Question, why: str) -> None:
    """BadInput where a machine is described, or an archive named, all the same."""
    if question.machine:
        question.machine.of_nothing(why)
    if question.selection:
        question.selection.is_no_use(why)


def word_of(kernel: Target) -> str:
    """What --tcp-kernel takes for a kernel: its last name, which is nobody else's; of the archive's the release."""
    return kernel.names[-1]


def _tell(question: Question, pairs: Sequence[Sides], missing: list[str]) -> int:
    """Print or write what differs, and what did not run; the exit code."""
    from harness.report.comparison import answers, lines
    from harness.report.output import write

    results = [answers.compare(question.mode, sides) for sides in pairs]
    missing = [*missing, *(line for result in results if (line := answers.emptiness(result)))]
    if question.page:
        if len(results) > 1:
            raise BadInput("a page shows two kernels: name them, harness compare A B --evidence DIR --page FILE")
        write(question.page, answers.page(results[0], missing))
    elif question.as_json:
        write("-", answers.as_json(results, missing))
    else:
        for result in results:
            for line in lines.printable(answers.lines(result, every=question.every)):
                click.echo(line)
        if question.mode == "changes" and not question.evidence and all(map(is_evidence, question.words)):
            note(EXACTLY.format(*question.words))
    for line in missing:
        note(line)
    if missing:
        return USAGE
    return SAME if all(result.same for result in results) else DIFFERENT
