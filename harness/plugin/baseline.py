"""--tcp-baseline: the run has to come out as the evidence of an earlier one, on the same line of kernels.

What differs (a verdict, or a measurement as `harness compare` decides it) is an error of the run, a line each; so is a
line of kernels of which the baseline has nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput
from harness.evidence.moved import moved
from harness.evidence.types import NOT_SETTLED
from harness.laws.kernel import age
from harness.plugin import own_errors
from harness.plugin.text import shortest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from harness.evidence.types import Run
    from harness.laws.kernel import Age
    from harness.plugin.summary import Results

OPTION = "--tcp-baseline"
# Of a test that measured otherwise, so many measurements are named.
NAMED = 3
# A claim, a test with its parameters, a line of kernels.
Key = tuple[str, str, str]


def begin(config: pytest.Config, results: Results) -> None:
    """With --tcp-baseline, read it before anything runs; UsageError if it cannot be, or is where the evidence goes."""
    given = config.getoption("tcp_baseline")
    if not given or config.getoption("collectonly"):
        return
    place = Path(config.invocation_params.dir, given)
    if place.resolve() == results.evidence.path.resolve():
        raise pytest.UsageError(
            f"--tcp-baseline: {given} is where this run's evidence goes, which would overwrite it: name another "
            "place with --tcp-evidence"
        )
    config.pluginmanager.register(Comparing(config, results, _read(place)), "harness-baseline")


@dataclass
class Baseline:
    """The runs of the evidence by claim, test and line of kernels."""

    place: Path
    runs: dict[Key, list[Run]] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """The lines of kernels that it has."""
        return sorted({line for _, _, line in self.runs})

    def counterpart(self, claim: str, run: Run) -> Run | None:
        """What a run is held against: the newest of the same kernel, or else of its line; None if there is none."""
        kernel = run.kernel.release, run.kernel_name

        def rank(other: Run) -> tuple[bool, bool, float, float, Age, str, float]:
            release, name = other.kernel.release, other.kernel_name
            # Of a session's kernels the newest, whichever of them ran the test last.
            of = 0.0 if other.session else other.started, age(other.kernel.version, release), name, other.when
            return (release, name) == kernel, release == kernel[0], other.session, *of

        return max(self.runs.get(_key(claim, run), ()), key=rank, default=None)


def _key(claim: str, run: Run) -> Key:
    from harness.report.history.model import line_of

    return claim, run.test, line_of(run.kernel.version)


def _read(place: Path) -> Baseline:
    from harness.report.history.gathering import gather

    try:
        gathered = gather([place])
    except BadInput as error:
        raise pytest.UsageError(f"--tcp-baseline: {error}") from None
    if gathered.notices:
        raise pytest.UsageError(*(f"--tcp-baseline: {notice}" for notice in gathered.notices))
    baseline = Baseline(place)
    for kept in gathered.runs:
        baseline.runs.setdefault(_key(kept.claim.name, kept.run), []).append(kept.run)
    return baseline


class Comparing:
    """Holds the session's runs against the baseline when all have ended."""

    def __init__(self, config: pytest.Config, results: Results, baseline: Baseline) -> None:
        self._config, self._results, self._baseline = config, results, baseline
        self._said = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """When nobody has stopped the run: what differs is an error each."""
        ran = yield
        for error in self._errors():
            self._config.hook.pytest_collectreport(report=error)
        return ran

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """How much there was to compare."""
        if self._said:
            terminalreporter.write_line(self._said)

    def _errors(self) -> Iterator[pytest.CollectReport]:
        compared = different = without = 0
        unknown: dict[str, None] = {}
        for claim, by_test in self._results.evidence.runs.items():
            for run in by_test.values():
                line = _key(claim, run)[2]
                before = self._baseline.counterpart(claim, run)
                if before is None or before.said == NOT_SETTLED:
                    without += 1
                    unknown |= {} if line in self._baseline.lines else {line: None}
                    continue
                compared += 1
                told = list(_differences(before, run))
                different += bool(told)
                yield from (own_errors.error(run.nodeid, line, when=OPTION, ran=True) for line in told)
        for line in unknown:
            yield own_errors.error(f"Linux {line}", self._has_nothing(line), when=OPTION)
        if not compared and not unknown:
            yield own_errors.error(shortest(self._baseline.place), "nothing was compared with it", when=OPTION)
        self._said = f"baseline {shortest(self._baseline.place)}: {_told(compared, different, without)}"

    def _has_nothing(self, line: str) -> str:
        known = ", ".join(self._baseline.lines)
        return (
            f"was not compared: the baseline {shortest(self._baseline.place)} is of {known}, and has no run of {line}"
        )


def _differences(before: Run, after: Run) -> Iterator[str]:
    """What a run has otherwise than the baseline, a line each."""
    from harness.evidence.differences import differences
    from harness.report.comparison.lines import difference_line

    since = f"than in the baseline, on {before.kernel.version}"
    if _verdict(before) != _verdict(after):
        why = moved(after) or after.reason.partition("\n")[0]
        yield f"came out otherwise {since}: {_verdict(before)} -> {_verdict(after)}{': ' * bool(why)}{why}"
        return
    changed = [difference_line(each) for each in differences(before, after) if each.changed]
    for line in changed[:NAMED]:
        yield f"measured otherwise {since}: {line}"
    if len(changed) > NAMED:
        yield f"measured otherwise {since}: {len(changed) - NAMED} more"


def _verdict(run: Run) -> str:
    """The verdict, whatever was expected; what became of the run where there is none."""
    return run.verdict.words if run.verdict is not None else run.said


def _told(compared: int, different: int, without: int) -> str:
    differ = f"{different} differ{'s' * (different == 1)}" if different else "none differs"
    also = f"; {without} {'has' if without == 1 else 'have'} nothing to compare with" if without else ""
    return f"{compared} test{'s' * (compared != 1)} compared, {differ}{also}"
