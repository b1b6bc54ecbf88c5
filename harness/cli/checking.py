"""What `harness check` does: boot a kernel, run scenarios on it, and judge what came of them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import click

from harness import files, screen
from harness.cli.notes import note
from harness.errors import BadInput, HarnessError
from harness.evidence.moved import moved
from harness.evidence.types import Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from harness.cli.machine import Machine
    from harness.cli.settling import Session
    from harness.evidence.types import Run
    from harness.kernels.selection import Selection
    from harness.kernels.targets import Target

# git-bisect(1), "Bisect run": 0 is good, 125 cannot be tested, everything else up to 127 is bad; from 128 on git stops.
GOOD, BAD, UNTESTABLE, NOTHING_KNOWN, INTERRUPTED = 0, 1, 125, 128, 130
# What an answer looks like; whatever could not be tested is in doubt.
MEANINGS = {GOOD: screen.GOOD, BAD: screen.BAD}
# So many tests that went wrong are told of.
SHOWN = 10
# How pytest's XML calls what could not be collected, or a kernel that did not run.
NOT_COLLECTED = "collection failure"
# And what failed when a test was over.
AFTERWARDS = "failed on teardown"


@dataclass(frozen=True)
class Check:
    """What is asked: which kernel, which claims or groups (none: all), what is good, and in which machine."""

    kernel: str
    claims: tuple[str, ...]
    verdict: Verdict | None
    skip_unbootable: bool
    scenarios: Path
    evidence: Path | None = None
    selection: Selection | None = field(default=None, compare=False)
    machine: Machine | None = None


@dataclass(frozen=True)
class Judged:
    """What came of it: the exit code, and the lines that say why."""

    code: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Failing:
    """A test without a claim that failed, or something that did not run: its name, and the first line of why."""

    name: str
    why: str
    ran: bool


def answer(check: Check) -> int:
    """Check, say what came of it, first of all the number that moved; the exit code."""
    judged = _judged(check)
    *why, last = judged.lines
    for line in why:
        click.echo(line)
    click.echo(screen.coloured(last, MEANINGS.get(judged.code, screen.DOUBT)))
    return judged.code


def _judged(check: Check) -> Judged:
    from harness.cli.question import the_kernel
    from harness.kernels.machine import MachineDied
    from harness.kernels.store import CannotRun

    _claims_are_known(check)
    try:
        target = the_kernel(check.kernel, check.selection)
    except CannotRun as error:
        return _cannot_run(error)
    if check.selection:
        check.selection.is_no_use(check.kernel)
    try:
        _boot(target, check)
    except CannotRun as error:
        return _cannot_run(error)
    except MachineDied as error:
        if damaged := _damage(target):
            return Judged(NOTHING_KNOWN, (damaged,))
        first, _, rest = str(error).partition("\n")
        if rest:
            click.echo(rest, err=True)
        return Judged(UNTESTABLE if check.skip_unbootable else BAD, (first, f"{check.kernel} does not boot"))
    return _run(check, target)


def _cannot_run(error: HarnessError) -> Judged:
    return Judged(UNTESTABLE, (str(error), "it cannot be tested: harness kernels config says what else it lacks"))


def _damage(target: Target) -> str:
    """What is wrong with the file of an image that does not boot; "" if the fault is the kernel's."""
    from harness.kernels import bzimage

    kernel = target.stored()
    return "" if kernel is None else bzimage.damage(kernel.image)


def _claims_are_known(check: Check) -> None:
    """BadInput, with the nearest names, for a claim that does not exist: before a machine is started."""
    from harness.claims.files import find, load

    if not files.there_is(check.scenarios):
        raise BadInput(f"{check.scenarios}: there are no scenarios here; name their directory with --scenarios")
    place = check.scenarios / "claims"
    if not any(place.glob("*.toml")):
        return  # pytest knows where else they may be
    claims = load(place)
    groups = {claim.group for claim in claims.values()}
    for name in check.claims:
        if name not in groups:
            find(name, claims)


def _boot(target: Target, check: Check) -> None:
    """Bring a kernel up once, unless its state is there: MachineDied if it does not come up.

    BadInput where a machine is described and the kernel runs in none.
    """
    kernel = target.stored()
    if kernel is not None:
        from harness.kernels import warm
        from harness.kernels.mode import Mode

        warm.boot(kernel, check.machine.mode if check.machine else Mode(), say=warm.Say())
    elif check.machine:
        check.machine.is_no_use(check.kernel)


def _run(check: Check, target: Target) -> Judged:
    """Run the scenarios, and judge."""
    from harness.cli.settling import Chosen, sessions
    from harness.evidence.codec import read_directory

    with files.folder("harness-check-") as directory:
        chosen = Chosen(target.name, target.names[-1], check.machine.words if check.machine else ())
        with sessions([chosen], directory, scenarios=check.scenarios, claims=check.claims) as (session,):
            code = session.wait()
            there = read_directory(session.evidence).files if session.evidence.is_dir() else ()
            runs = [(file.claim.name, run) for file in there for run in file.runs]
            if check.evidence is not None and there:
                shutil.copytree(session.evidence, check.evidence, dirs_exist_ok=True)
            others = list(failing(session.junit))
            stopped = _stopped(session, code, runs, others)
            return judge(check, target.name, runs, others, stopped, plain=passed(session.junit))


def _stopped(session: Session, code: int, runs: Sequence[tuple[str, Run]], others: Sequence[Failing]) -> str:
    """Why what pytest has left is not all that there is to say; "" if it is."""
    from harness.cli.settling import FAILED, WHOLE

    said = f"pytest ended with {code}: {' '.join(session.last_words()) or 'it said nothing'}"
    accounted = others or any(run.outcome not in (Outcome.EXPECTED, Outcome.UNSETTLED) for _, run in runs)
    return "" if code in WHOLE and (code != FAILED or accounted) else said


def failing(junit: Path) -> Iterator[Failing]:
    """What failed, by pytest's XML, but for the tests of claims, of which there is evidence when they are over."""
    if not junit.exists():
        return
    for case in ET.parse(junit).getroot().iter("testcase"):
        of_a_claim = any(each.get("name") == "claim" for each in case.iter("property"))
        for what in [*case.findall("failure"), *case.findall("error")]:
            message = what.get("message", "")
            if message == NOT_COLLECTED:
                yield Failing(case.get("name", ""), _last_line(what.text or ""), ran=False)
            elif not of_a_claim or message.startswith(AFTERWARDS):
                yield Failing(case.get("name", ""), message.partition("\n")[0], ran=True)


def passed(junit: Path) -> int:
    """How many tests without a claim passed, by pytest's XML."""
    if not junit.exists():
        return 0
    cases = ET.parse(junit).getroot().iter("testcase")
    wrong = ("failure", "error", "skipped")
    return sum(
        not any(each.get("name") == "claim" for each in case.iter("property"))
        and all(case.find(what) is None for what in wrong)
        for case in cases
    )


def _last_line(text: str) -> str:
    lines = [line.removeprefix("E").strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def judge(
    check: Check,
    kernel: str,
    runs: Sequence[tuple[str, Run]],
    others: Sequence[Failing],
    stopped: str,
    *,
    plain: int = 0,
) -> Judged:
    """What is to be said of a kernel after its claims have run, and `plain` tests without a claim have passed.

    A measurement that is wrong counts, whatever else did not run; without one, all that was asked for must have run.
    """
    where = f"Linux {kernel}"
    wrong = [(name, run) for name, run in runs if is_wrong(run, check.verdict)]
    failed = [test for test in others if test.ran]
    if wrong or failed:
        return Judged(BAD, (*_wrong_lines(wrong, failed, check.verdict), f"bad: {where}"))
    absent = [f"{test.name}: {test.why}" for test in others if not test.ran]
    if stopped or absent or not (runs or plain):
        why = stopped or "; ".join(absent[:3]) or "no scenario was chosen"
        return Judged(NOTHING_KNOWN, (f"nothing is known of {where}: {why}",))
    if not runs:
        return Judged(GOOD, (f"good: {where}: {plain} test{'s' * (plain != 1)} without a claim",))
    settled = {name for name, run in runs if run.outcome is not Outcome.UNSETTLED}
    if unsettled := {name: run.reason for name, run in runs if name not in settled}:
        lines = [f"{name}: not settled: {reason}" for name, reason in list(unsettled.items())[:SHOWN]]
        if check.claims or not settled:
            return Judged(UNTESTABLE, (*lines, f"it cannot be tested: {where}"))
        for line in lines:
            note(line)
    return Judged(GOOD, (f"good: {where}: {_verdicts(runs, settled, check.verdict)}",))


def is_wrong(run: Run, wanted: Verdict | None) -> bool:
    """Whether a run speaks against a kernel: not as expected, or another verdict than the wanted one."""
    if run.outcome is Outcome.UNSETTLED:
        return False
    if wanted is not None and run.verdict is not None:
        return run.verdict is not wanted
    return run.outcome is not Outcome.EXPECTED


def _wrong_lines(wrong: Sequence[tuple[str, Run]], failed: Sequence[Failing], wanted: Verdict | None) -> Iterator[str]:
    """The number that moved, and under it whose it is; equal numbers once."""
    by_number: dict[str, list[str]] = {}
    for name, run in wrong:
        what = run.said if wanted is None or run.verdict is None else f"{run.verdict.words}, not {wanted.words}"
        by_number.setdefault(moved(run, wanted), []).append(f"{name}: {what}: {run.nodeid}")
    for test in failed:
        by_number.setdefault(test.why, []).append(test.name)
    left = SHOWN
    for number, whose in by_number.items():
        if left > 0:
            yield number
            yield from (f"  {line}" for line in whose[:left])
        left -= len(whose)
    if left < 0:
        yield f"  and {-left} more"


def _verdicts(runs: Sequence[tuple[str, Run]], settled: set[str], wanted: Verdict | None) -> str:
    how = "as expected" if wanted is None else "as wanted"
    if len(settled) == 1:
        (name,) = settled
        verdicts = {run.verdict.words for run_of, run in runs if run_of == name and run.verdict is not None}
        return f"{name}: {' and '.join(sorted(verdicts))}, {how}"
    return f"{len(settled)} claims, {how}"
