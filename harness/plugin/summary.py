"""Results in the process that talks to the user: evidence files as reports come in, and the summary at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.claims.render import comparison_line, tells
from harness.errors import BadInput
from harness.evidence import failed
from harness.evidence.codec import decode_settled
from harness.evidence.directory import EvidenceDirectory
from harness.evidence.moved import attempts, moved
from harness.evidence.types import NOT_SETTLED, SAID, WRONG, Comparison, Outcome, Run
from harness.files import is_directory
from harness.plugin import by_kernel
from harness.plugin.claims import EVIDENCE, PACKETS, RUN_AGAIN, claim_places, of_test
from harness.plugin.options import in_pytest
from harness.plugin.text import shortest
from harness.plugin.witness import FAILED_TEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# The summary's headings in their order: the loudest last, nearest to the prompt.
HEADINGS = ("holds", "refuted", "not applicable", *(said for said in reversed(SAID) if said in (NOT_SETTLED, *WRONG)))
LOUD = (NOT_SETTLED, *WRONG)
# pytest's colours.
GREEN, YELLOW, RED, BOLD = {"green": True}, {"yellow": True}, {"red": True}, {"red": True, "bold": True}
COLOURS = {
    NOT_SETTLED: YELLOW,
    "failed": RED,
    "incomplete": RED,
    "broken": RED,
    "unexplained": BOLD,
    "unexpected": BOLD,
}
STATEMENT_WIDTH = 100


def begin(config: pytest.Config) -> Results:
    """Collect the results of a session."""
    results = Results(config, Path(config.invocation_params.dir, config.getoption("tcp_evidence")))
    config.pluginmanager.register(results, "harness-results")
    return results


class Results:
    """Keeps the runs of claims that the reports bring, writes their evidence, and says at the end what came out."""

    def __init__(self, config: pytest.Config, directory: Path) -> None:
        self.config = config
        self.evidence = EvidenceDirectory(directory)
        # Tests without a claim that failed, of whose labs something was kept; and those of which the kernel complained
        # when they were over.
        self.failed: dict[str, failed.FailedTest] = {}
        self._not_kept = ""
        self._gone = ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Before the first test of a claim: its evidence must have a place."""
        if any(of_test(item) for item in session.items) and not self.config.getoption("collectonly"):
            self._refuse_unwritable()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self) -> None:
        """The same before workers start, which may take minutes, where somebody has named the place."""
        named = any(
            word.partition("=")[0] in ("--evidence", "--tcp-evidence") for word in self.config.invocation_params.args
        )
        if named and not self.config.getoption("collectonly"):
            self._refuse_unwritable()

    def _refuse_unwritable(self) -> None:
        try:
            self.evidence.refuse_unwritable()
        except BadInput as error:
            raise pytest.UsageError(str(error)) from None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """What somebody has removed in the meantime is written again, and the run has failed."""
        try:
            self._gone = _removed(*self.evidence.restore())
        except BadInput as error:
            self._gone = str(error)
        if self._gone and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the evidence off a report."""
        self._keep_failed(report)
        text = getattr(report, EVIDENCE, None)
        if text is None:
            return
        try:
            settled = decode_settled(text)
            packets = getattr(report, PACKETS, None)
            comes_again = report.outcome == RUN_AGAIN
            run, path = self.evidence.add(settled.claim, settled.run, packets, comes_again=comes_again)
        except BadInput as error:
            pytest.exit(in_pytest(str(error)), returncode=int(pytest.ExitCode.USAGE_ERROR))
        hook = self.config.hook
        hook.pytest_tcp_evidence_written(config=self.config, claim=settled.claim, path=path)
        if not comes_again:
            hook.pytest_tcp_claim_settled(config=self.config, claim=settled.claim, run=run)

    def _keep_failed(self, report: pytest.TestReport) -> None:
        """Keep what a lab's hosts saw until its test failed; one that passes has nothing to keep any more."""
        text = getattr(report, FAILED_TEST, None)
        try:
            if text is not None:
                self._keep(failed.decode(text), getattr(report, PACKETS, None))
            elif report.when == "call" and report.passed:
                failed.forget(self.evidence.path, report.nodeid)
                self.failed.pop(report.nodeid, None)
        except (BadInput, OSError) as error:
            self._not_kept = in_pytest(str(error))

    def _keep(self, test: failed.FailedTest, packets: bytes | None) -> None:
        """Keep a failed test; what is said of it when it is over comes to what it had failed with."""
        before = self.failed.get(test.nodeid)
        if before is not None and not test.has_lab:
            test = failed.with_more(before, test.text)
        self.failed[test.nodeid] = failed.keep(self.evidence.path, test, packets)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The claims by verdict, a part for each kernel."""
        runs = [(name, run) for name, by_test in self.evidence.runs.items() for run in by_test.values()]
        for kernel in sorted({run.kernel.release for _, run in runs}):
            terminalreporter.section(f"claims on Linux {kernel}", sep="=")
            self._one_kernel(terminalreporter, [(name, run) for name, run in runs if run.kernel.release == kernel])
        by_kernel.write(
            terminalreporter, {name: list(by_test.values()) for name, by_test in self.evidence.runs.items()}
        )
        if runs:
            missing = self._never_run()
            if missing:
                terminalreporter.write_line(f"no result for: {', '.join(missing)}", yellow=True)
            terminalreporter.write_line(f"evidence: {shortest(self.evidence.path)}")
        with_labs = [test for test in self.failed.values() if test.has_lab]
        if with_labs:
            number = f"{len(with_labs)} failed test{'s' * (len(with_labs) != 1)}"
            place = shortest(self.evidence.path / failed.FOLDER)
            terminalreporter.write_line(f"packets and counters of {number} without a claim: {place}")
        if self._gone:
            terminalreporter.write_line(self._gone, red=True)
        if self._not_kept:
            terminalreporter.write_line(f"not kept: {self._not_kept}", yellow=True)

    def _one_kernel(self, terminal: pytest.TerminalReporter, runs: list[tuple[str, Run]]) -> None:
        by_heading: dict[str, dict[str, list[Run]]] = {heading: {} for heading in HEADINGS}
        by_claim: dict[str, list[Run]] = {}
        for name, run in sorted(runs, key=lambda pair: (pair[0], pair[1].nodeid)):
            by_heading.get(run.said, by_heading[Outcome.INCOMPLETE]).setdefault(name, []).append(run)
            by_claim.setdefault(name, []).append(run)
        labels = {
            (heading, name): _label(name, its_runs, by_claim[name])
            for heading, claims in by_heading.items()
            for name, its_runs in claims.items()
        }
        width = max(map(len, labels.values()))
        for heading, claims in by_heading.items():
            if not claims or (self.config.get_verbosity() < 0 and heading not in LOUD):
                continue
            terminal.write_line(f"{heading} ({len(claims)})", **COLOURS.get(heading, GREEN))
            for name, its_runs in claims.items():
                colour = COLOURS[heading] if heading in LOUD else {}
                line = f"  {labels[heading, name]:<{width}}  {self._text(heading, name, its_runs)}"
                terminal.write_line(line.rstrip(), **colour)
                for why in _why(its_runs) if heading in WRONG else ():
                    terminal.write_line(f"      {why}", **colour)
        flaky = _flaky(terminal, by_claim)
        counts = ", ".join(f"{len(claims)} {heading}" for heading, claims in by_heading.items() if claims)
        bad = any(by_heading[heading] for heading in WRONG)
        plural = "s" * (len(by_claim) != 1)
        also = f"; {flaky} flaky" if flaky else ""
        terminal.write_line(f"{len(by_claim)} claim{plural}: {counts}{also}", red=bad, green=not bad, bold=True)

    def _text(self, heading: str, name: str, runs: Sequence[Run]) -> str:
        if heading == NOT_SETTLED:
            return "; ".join(dict.fromkeys(run.reason for run in runs))
        return _shorten(self.evidence.claims[name].statement)

    def _never_run(self) -> list[str]:
        """Claims that no test brought a result for, if a directory was run as a whole; a worker may have died."""
        narrowed = (
            "tcp_claim",
            "keyword",
            "markexpr",
            "lf",
            "deselect",
            "maxfail",
            "collectonly",
            "ignore",
            "ignore_glob",
        )
        if any(self.config.getoption(option, None) for option in narrowed):
            return []
        from harness.claims.files import load

        if not all(is_directory(Path(self.config.invocation_params.dir, argument)) for argument in self.config.args):
            return []
        names = [name for place in claim_places(self.config) for name in load(place)]
        return [name for name in names if name not in self.evidence.runs]


def _removed(files: int, captures: int) -> str:
    """What to say of claims whose evidence somebody has removed, and of others whose captures; "" where nothing was."""
    said = []
    if files:
        said.append(
            f"the evidence of {files} claim{'s' * (files != 1)} was removed while the run was going on: "
            "it was written again, without captures"
        )
    if captures:
        said.append(f"captures of {captures} claim{'s' * (captures != 1)} were removed while the run was going on")
    return "; ".join(said)


def _label(name: str, runs: Sequence[Run], all_runs: Sequence[Run]) -> str:
    """The claim's name; which of its runs are meant, if it is not all."""
    if len(runs) == len(all_runs):
        return name
    tests = {run.nodeid.partition("[")[0] for run in all_runs}
    which = [run.params if len(tests) == 1 else run.nodeid.rpartition("::")[2] for run in runs]
    return f"{name} [{', '.join(which)}]"


def _flaky(terminal: pytest.TerminalReporter, by_claim: dict[str, list[Run]]) -> int:
    """Name the claims that came out as expected only when a test was run again, and how; their number."""
    flaky = {name: its_runs for name, runs in by_claim.items() if (its_runs := [run for run in runs if run.is_flaky])}
    if flaky:
        terminal.write_line(f"flaky ({len(flaky)})", **YELLOW)
        for name, its_runs in flaky.items():
            terminal.write_line(f"  {_label(name, its_runs, by_claim[name])}", **YELLOW)
            for line in dict.fromkeys(line for run in its_runs for line in attempts(run)):
                terminal.write_line(f"      {line}", **YELLOW)
    return len(flaky)


def _why(runs: Sequence[Run]) -> list[str]:
    """Expectation and measurement of the runs that went wrong; equal lines of several runs once."""
    lines: dict[str, None] = {}
    for run in runs:
        lines |= dict.fromkeys(attempts(run))
        lines |= dict.fromkeys(filter(None, [moved(run), *run.reason.splitlines()[:4]]))
        lines |= dict.fromkeys(map(comparison_line, list(_telling(run))[:3]))
    return list(lines)


def _telling(run: Run) -> Iterator[Comparison]:
    """The comparisons that made an unexpected verdict."""
    return (each for phase in run.phases for each in phase.comparisons if tells(run, each))


def _shorten(statement: str) -> str:
    statement = " ".join(statement.split())
    return statement if len(statement) <= STATEMENT_WIDTH else f"{statement[: STATEMENT_WIDTH - 1].rstrip()}…"
