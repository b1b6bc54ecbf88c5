"""Reports that come with another test's: what a program has printed as results, what a kernel complains of too late.

In a worker pytest-xdist passes on the reports of the test that it runs, and refuses those of any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.plugin.process import is_worker

if TYPE_CHECKING:
    from collections.abc import Iterable

# The attribute of a report that has those that come with it, as pytest_report_to_serializable() makes them.
ATTRIBUTE = "harness_beside"


def begin(config: pytest.Config) -> None:
    """Take them off the reports that they come with, where reports arrive."""
    if not is_worker(config):
        config.pluginmanager.register(Beside(config), "harness-beside")


def add(config: pytest.Config, report: pytest.TestReport, others: Iterable[pytest.TestReport]) -> None:
    """Let these come with a report."""
    if more := [config.hook.pytest_report_to_serializable(config=config, report=other) for other in others]:
        setattr(report, ATTRIBUTE, [*getattr(report, ATTRIBUTE, []), *more])


class Beside:
    """Tells of what comes with a report before the report itself."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._session: pytest.Session | None = None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Note the session, which counts tests."""
        self._session = session

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell of what comes with a report."""
        for data in vars(report).pop(ATTRIBUTE, ()):
            other = self._config.hook.pytest_report_from_serializable(config=self._config, data=data)
            if hasattr(report, "node"):  # pytest-xdist's, of a report that has come from a worker
                other.node = report.node
            if other.when == "call" and self._session is not None:
                # Progress is not more than all.
                self._session.testscollected += 1
            self._config.hook.pytest_runtest_logreport(report=other)
