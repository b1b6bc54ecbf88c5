"""--tcp-report, --tcp-ktap, --tcp-kcidb: what the session settled and what failed, written at its end."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import files
from harness.errors import HarnessError
from harness.plugin import own_errors
from harness.plugin.text import last_line, shortest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from harness.plugin.summary import Results
    from harness.report.table import Missing, Table

# pytest's own results, by the names that its option has, and how one of them is written.
JUNIT, JUNIT_OPTION = "xmlpath", "--junitxml"
REPORTS = "harness-reports"
# The module that writes it.
WRITING_JUNIT = "junitxml.py"
# Option, and the format of harness.report.formats.
FORMATS = {"tcp_report": "html", "tcp_ktap": "ktap", "tcp_kcidb": "kcidb"}
OPTIONS = {form: option.replace("_", "-") for option, form in FORMATS.items()}


def begin(config: pytest.Config, results: Results) -> None:
    """Write what is asked for when the session ends; UsageError for what cannot be."""
    if config.getoption(JUNIT, None):
        refuse_unwritable_junit(config)
        config.pluginmanager.register(Junit(), "harness-junit")
    if named := wanted(config):
        config.pluginmanager.register(Reports(results, named), REPORTS)


def refuse_unwritable_junit(config: pytest.Config) -> None:
    """UsageError where pytest could not write its JUnit XML: it says so at the end, by a traceback."""
    asked = config.getoption(JUNIT)
    # As pytest reads it (_pytest/junitxml.py, LogXML).
    path = Path(config.invocation_params.dir, os.path.expanduser(os.path.expandvars(asked)))  # noqa: PTH111
    try:
        files.refuse_unwritable(path, f"{JUNIT_OPTION} {asked}")
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from None


def wanted(config: pytest.Config) -> dict[str, Path]:
    """The files that were asked for, by format; UsageError for one that cannot be a file."""
    asked = {form: config.getoption(option) for option, form in FORMATS.items()}
    named = {form: Path(config.invocation_params.dir, path) for form, path in asked.items() if path}
    for form, path in named.items():
        try:
            files.refuse_unwritable(path, f"--{OPTIONS[form]} {asked[form]}")
        except HarnessError as error:
            raise pytest.UsageError(str(error)) from None
    if "kcidb" in named:
        from harness.report import kcidb

        if absent := kcidb.lacking():
            raise pytest.UsageError(f"--tcp-kcidb: {absent}")
    return named


class Junit:
    """What pytest does at its end is not ended by a traceback where the JUnit XML can no more be written."""

    def __init__(self) -> None:
        self._told = ""

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Take the error of _pytest/junitxml.py, within all that others do around it."""
        try:
            return (yield)
        except OSError as error:
            frames = traceback.extract_tb(error.__traceback__)
            if not any(Path(frame.filename).name == WRITING_JUNIT for frame in frames):
                raise
            why = f"cannot be written: {error.strerror or error}"
            self._told = f"{JUNIT_OPTION} {session.config.getoption(JUNIT)}: {why}"
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.USAGE_ERROR
            # The error has left out whoever came after it.
            reports: Reports | None = session.config.pluginmanager.get_plugin(REPORTS)
            if reports is not None and not reports.is_over:
                reports.pytest_sessionfinish(session)
            return None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say it."""
        if self._told:
            terminalreporter.write_line(self._told, red=True)


class Reports:
    """Writes the files at the end of the session, from the evidence of the claims that it ran."""

    def __init__(self, results: Results, named: dict[str, Path]) -> None:
        self._results = results
        self._files = named
        self._missing: list[Missing] = []
        self._told: list[tuple[str, bool]] = []
        self.is_over = False

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note kernels that did not run, and what could not be collected, for no evidence has them; and differences."""
        if report.failed:
            from harness.report.table import Missing

            crash = getattr(report.longrepr, "reprcrash", None)
            why = crash.message if crash else f"could not be collected: {last_line(report.longreprtext)}"
            self._missing.append(Missing(report.nodeid, why, ran=getattr(report, own_errors.RAN, False)))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write them; one that cannot be written makes the run a failed one."""
        self.is_over = True
        if not self._results.evidence.runs and not self._missing and not self._results.failed:
            self._told = [
                (f"no claim was run and no test with a lab failed, so there is no {path.name}", False)
                for path in self._files.values()
            ]
            return
        try:
            self._told = list(self._write())
        except HarnessError as error:
            self._told.append((str(error), True))
        if any(bad for _, bad in self._told) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where they are."""
        for line, bad in self._told:
            terminalreporter.write_line(line, red=bad)

    def _table(self) -> Table:
        """What the session settled, and what did not run though it was to."""
        from harness.evidence.codec import harness_version
        from harness.report.table import Table, read

        evidence, failed = self._results.evidence, self._results.failed
        if not evidence.runs and not failed:
            return Table((), (), harness_version(), missing=tuple(self._missing))
        return read([evidence.path], claims=set(evidence.runs), tests=set(failed), missing=self._missing)

    def _write(self) -> Iterable[tuple[str, bool]]:
        from harness.report.formats import render
        from harness.report.output import write

        table = self._table()
        for form, path in self._files.items():
            write(str(path), render(form, table))
            yield f"{form}: {shortest(path)}", False
