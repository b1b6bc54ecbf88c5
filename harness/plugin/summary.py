"""Results in the process that talks to the user: evidence files as reports come in, and the summary at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.claims.evidence import EvidenceDirectory
from harness.claims.render import comparison_line
from harness.errors import BadInput
from harness.plugin.claims import EVIDENCE, PACKETS, claim_places
from harness.plugin.formats import shortest

# Headings of the summary in their order, with pytest's colours: the loudest last, nearest to the prompt.
HEADINGS = {
    "holds": {"green": True},
    "refuted": {"green": True},
    "not applicable": {"green": True},
    "not settled": {"yellow": True},
    "failed": {"red": True},
    "incomplete": {"red": True},
    "broken": {"red": True},
    "unexplained": {"red": True, "bold": True},
    "unexpected": {"red": True, "bold": True},
}
LOUD = ("not settled", "failed", "incomplete", "broken", "unexplained", "unexpected")
STATEMENT_WIDTH = 100


def begin(config: pytest.Config) -> Results:
    """Collect the results of a session."""
    results = Results(config, Path(config.invocation_params.dir, config.getoption("evidence")))
    config.pluginmanager.register(results, "harness-results")
    return results


class Results:
    """Keeps the runs of claims that the reports bring, writes their evidence, and says at the end what came out."""

    def __init__(self, config: pytest.Config, directory: Path) -> None:
        self.config = config
        self.evidence = EvidenceDirectory(directory)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the evidence off a report."""
        text = getattr(report, EVIDENCE, None)
        if text is None:
            return
        found = json.loads(text)
        try:
            self.evidence.add(found["claim"], found["run"], getattr(report, PACKETS, None))
        except BadInput as error:
            pytest.exit(str(error), returncode=int(pytest.ExitCode.USAGE_ERROR))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The claims by verdict, a part for each kernel."""
        runs = [(name, run) for name, by_test in self.evidence.runs.items() for run in by_test.values()]
        for kernel in sorted({run["kernel"]["release"] for _, run in runs}):
            here = [(name, run) for name, run in runs if run["kernel"]["release"] == kernel]
            terminalreporter.section(f"claims on Linux {kernel}", sep="=")
            self._one_kernel(terminalreporter, here)
        if runs:
            missing = self._never_run()
            if missing:
                terminalreporter.write_line(f"no result for: {', '.join(missing)}", yellow=True)
            terminalreporter.write_line(f"evidence: {shortest(self.evidence.path)}")

    def _one_kernel(self, terminal: pytest.TerminalReporter, runs: list[tuple[str, dict[str, Any]]]) -> None:
        grouped: dict[str, dict[str, list[dict[str, Any]]]] = {heading: {} for heading in HEADINGS}
        for name, run in sorted(runs, key=lambda one: (one[0], one[1]["nodeid"])):
            grouped[heading_of(run)].setdefault(name, []).append(run)
        every: dict[str, list[dict[str, Any]]] = {}
        for name, run in runs:
            every.setdefault(name, []).append(run)
        width = max(len(self._label(name, runs_, every[name])) for by in grouped.values() for name, runs_ in by.items())
        for heading, colour in HEADINGS.items():
            claims = grouped[heading]
            if not claims or (self.config.get_verbosity() < 0 and heading not in LOUD):
                continue
            terminal.write_line(f"{heading} ({len(claims)})", **colour)
            for name, its_runs in claims.items():
                label = self._label(name, its_runs, every[name])
                text = _shorten(self.evidence.claims[name]["statement"])
                if heading == "not settled":
                    text = "; ".join(dict.fromkeys(run["reason"] for run in its_runs))
                terminal.write_line(f"  {label:<{width}}  {text}".rstrip(), **(colour if heading in LOUD else {}))
                if heading in LOUD and heading != "not settled":
                    for line in _why(its_runs):
                        terminal.write_line(f"      {line}", **colour)
        counts = ", ".join(f"{len(by)} {heading}" for heading, by in grouped.items() if by)
        bad = any(grouped[heading] for heading in LOUD if heading != "not settled")
        terminal.write_line(f"{len(every)} claim{'s' * (len(every) != 1)}: {counts}", red=bad, green=not bad, bold=True)

    @staticmethod
    def _label(name: str, runs: list[dict[str, Any]], all_runs: list[dict[str, Any]]) -> str:
        """The claim's name; which of its runs are meant, if it is not all."""
        if len(runs) == len(all_runs):
            return name
        tests = {run["nodeid"].partition("[")[0] for run in all_runs}
        which = [run["params"] if len(tests) == 1 else run["nodeid"].rpartition("::")[2] for run in runs]
        return f"{name} [{', '.join(which)}]"

    def _never_run(self) -> list[str]:
        """Claims that no test brought a result for, if a directory was run as a whole; a worker may have died."""
        narrowed = ("claim", "keyword", "markexpr", "lf", "deselect", "maxfail", "collectonly", "ignore", "ignore_glob")
        if any(self.config.getoption(option, None) for option in narrowed):
            return []
        from harness.claims.data import load

        if not all(Path(self.config.invocation_params.dir, argument).is_dir() for argument in self.config.args):
            return []
        names = [name for place in claim_places(self.config) for name in load(place)]
        return [name for name in names if name not in self.evidence.runs]


def heading_of(run: dict[str, Any]) -> str:
    """Under which heading of the summary a run belongs."""
    outcome: str = run["outcome"]
    if outcome == "expected":
        return str(run["verdict"]).replace("-", " ")
    return "not settled" if outcome == "unsettled" else outcome


def _why(runs: list[dict[str, Any]]) -> list[str]:
    """Expectation and measurement of the runs that went wrong; equal lines of several runs once."""
    lines: dict[str, None] = {}
    for run in runs:
        lines |= dict.fromkeys(run["reason"].splitlines()[:4])
        if run["outcome"] == "unexpected":
            wanted = "kernel" if run["verdict"] == "refuted" else "document"
            told = [one for phase in run["phases"] for one in phase["comparisons"] if one["result"] == wanted]
            lines |= dict.fromkeys(comparison_line(one) for one in told[:3])
    return list(lines)


def _shorten(statement: str) -> str:
    statement = " ".join(statement.split())
    return statement if len(statement) <= STATEMENT_WIDTH else f"{statement[: STATEMENT_WIDTH - 1].rstrip()}…"
