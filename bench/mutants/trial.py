"""A mutant on trial: the scenarios run on it, those that should notice first; what failed is in the evidence."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.errors import HarnessError
from harness.evidence.codec import read_directory
from harness.evidence.types import Judgement, Outcome, PhaseKind, Result, Verdict, is_wrong
from harness.orphans import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.mutants.patches import Mutant
    from harness.evidence.types import Comparison, Phase, Run

PROJECT = Path(__file__).parents[2]
# How far to look, and for how many seconds of real time: a scenario that never ends has noticed nothing.
STAGES = {"claims": 900.0, "group": 1800.0, "all": 3600.0}
SCENARIOS = "scenarios/"
FINE = (Outcome.EXPECTED, Outcome.UNSETTLED)


class Catch(msgspec.Struct, frozen=True):
    """A claim's scenario that failed on a mutant: the test, what became of it, and the comparison that says so."""

    claim: str
    nodeid: str
    outcome: str
    says: str


class Trial(msgspec.Struct, frozen=True):
    """What the scenarios made of a mutant. `stage` says how far one looked: claims, group, all.

    `died` is the end of pytest's output where scenarios failed that left no evidence: the kernel is no use. `seconds`
    are those of running, `digest` identifies the kernel.
    """

    name: str
    digest: str
    kernel: str
    stage: str
    catches: tuple[Catch, ...]
    seconds: float
    died: str = ""

    @property
    def survived(self) -> bool:
        """Whether no claim noticed."""
        return not self.catches and not self.died

    @property
    def fate(self) -> str:
        """What became of the mutant, in a word."""
        return "caught" if self.catches else "broken" if self.died else "survived"


class NotRun(HarnessError):
    """pytest could not run the scenarios."""


def stages(mutant: Mutant, far: str = "all", passed: str | None = None) -> Iterator[tuple[str, list[str]]]:
    """How far to look, and pytest's words for it: the claims that should notice, their group, all.

    Not beyond `far`, and only what comes after the stage that was passed already. For the claims only the files that
    have them are collected: on an emulated processor to import all takes longer than the claims' own tests.
    """
    words = {
        "claims": [*files_of(mutant.claims), *(word for name in mutant.claims for word in ("--tcp-claim", name))],
        "group": [SCENARIOS, "--tcp-claim", mutant.group],
        "all": [SCENARIOS],
    }
    names = list(STAGES)
    for name in names[names.index(passed) + 1 if passed else 0 : names.index(far) + 1]:
        if name != "claims" or mutant.claims:
            yield name, words[name]


def files_of(claims: Sequence[str]) -> list[str]:
    """The files that have scenarios of these claims, as pytest is given them; all, if one is in no file."""
    texts = {file: file.read_text(encoding="utf-8") for file in sorted((PROJECT / SCENARIOS).rglob("test_*.py"))}
    holders = {name: [file for file, text in texts.items() if f'mark.claim("{name}")' in text] for name in claims}
    if not all(holders.values()):
        return [SCENARIOS]
    files = sorted({file for each in holders.values() for file in each})
    return [str(file.relative_to(PROJECT)) for file in files]


def try_mutant(
    mutant: Mutant, image: Path, digest: str, directory: Path, *, far: str = "all", before: Trial | None = None
) -> Trial:
    """Run the scenarios on a mutant until a claim notices; on from where it survived before."""
    started = time.monotonic()
    trial = before or Trial(mutant.name, digest, image.name, "claims", (), 0.0)
    family = "not ipv6" if mutant.family == "ipv4" else "ipv6"
    for stage, words in stages(mutant, far, before.stage if before else None):
        catches, died = run(image, ["-k", family, "-x", *words], directory / f"{mutant.name}-{stage}", STAGES[stage])
        seconds = round((before.seconds if before else 0.0) + time.monotonic() - started, 1)
        trial = Trial(mutant.name, digest, image.name, stage, catches, seconds, died)
        if catches or died:
            break
    return trial


def run(
    image: Path, words: Sequence[str], directory: Path, longest: float = STAGES["all"]
) -> tuple[tuple[Catch, ...], str]:
    """Run scenarios on a kernel: what noticed something, and the end of the output if something failed unnoticed.

    `words` say to pytest which. The image is always at the same place, so that its machine's states take the place of
    those of the one before.
    """
    place = directory.parent / "kernel" / "bzImage"
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(image, place)
    shutil.rmtree(directory, ignore_errors=True)
    command = [sys.executable, "-m", "pytest", "--tcp-kernel", str(place), "-p", "no:cacheprovider"]
    log = directory.with_suffix(".log")
    with log.open("w", encoding="utf-8") as output:
        pytest = subprocess.Popen(
            [*command, "--tcp-evidence", str(directory), "-q", *words], cwd=PROJECT, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=die_with_parent,  # noqa: PLW1509 -- one thread
        )  # fmt: skip
        try:
            code = pytest.wait(longest)
        except BaseException as error:
            os.killpg(pytest.pid, signal.SIGKILL)
            pytest.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return (), f"not done after {longest:g} s"
    said = log.read_text(encoding="utf-8", errors="replace")
    if code not in (0, 1, 2, 5):  # passed, failed, -x, nothing to run
        raise NotRun(f"{log}: pytest ended with {code}: {said[-500:]}")
    catches = tuple(read_catches(directory)) if directory.is_dir() else ()
    return catches, said[-2000:] if code in (1, 2) and not catches else ""


def read_catches(directory: Path) -> Iterator[Catch]:
    """The claims whose scenarios failed, of the evidence of a run."""
    for file in read_directory(directory).files:
        for ran in file.runs:
            if ran.outcome not in FINE:
                yield Catch(file.claim.name, ran.nodeid, str(ran.outcome), what_failed(ran))


def what_failed(ran: Run) -> str:
    """The first comparison that is wrong; where the verdict is another one, the first that made it so."""
    for phase in ran.phases:
        for comparison in phase.comparisons:
            if is_wrong(comparison) or (ran.outcome is Outcome.UNEXPECTED and _decides(ran, phase, comparison)):
                return _as_text(phase, comparison)
        if phase.interrupted:
            return f"{phase.kind}: {phase.title}: {phase.interrupted}"
    return ran.reason


def _decides(ran: Run, phase: Phase, comparison: Comparison) -> bool:
    """Whether a comparison with the document came out as this verdict, and not the expected one, needs it to."""
    if not isinstance(comparison, Judgement) or phase.kind is not PhaseKind.EFFECT:
        return False
    return (comparison.result is Result.KERNEL) == (ran.verdict is Verdict.REFUTED)


def _as_text(phase: Phase, comparison: Comparison) -> str:
    if isinstance(comparison, Judgement):
        wanted = f"the document {comparison.document}, the kernel {comparison.kernel}"
    else:
        wanted = f"wanted {comparison.wanted}"
    return f"{phase.kind}: {phase.title}: {comparison.what}: {comparison.measured} ({wanted})"
