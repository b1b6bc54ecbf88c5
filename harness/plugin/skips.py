"""--tcp-fail-on-skip: what was chosen and could not be run here makes the run a failed one, and is named.

Meant is what the machine or the kernel decides: a program, a right or a part of the kernel that is missing, `skipif`,
pytest.skip(), importorskip(), a test of a machine's own knobs without --tcp-own-kernel, a module that skips itself. Not
meant is what somebody has decided: tests that were not chosen, @pytest.mark.skip in the source, which is the same
everywhere, and xfail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.plugin import own_errors
from harness.plugin.text import skip_reason

if TYPE_CHECKING:
    from collections.abc import Generator

    from harness.plugin.attendance import Attendance

OPTION = "--tcp-fail-on-skip"
# What pytest says of a test without parameters: it marks it as skipped itself, and nobody has decided that.
NO_PARAMETERS = "got empty parameter set"


def begin(config: pytest.Config) -> None:
    """With --tcp-fail-on-skip, note what is skipped."""
    if config.getoption("tcp_fail_on_skip") and not config.getoption("collectonly"):
        config.pluginmanager.register(Skips(config), "harness-skips")


class Skips:
    """Notes what was skipped, and says so at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._skipped: dict[tuple[str, str], None] = {}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a module that has skipped itself."""
        if report.skipped:
            self._skipped[report.nodeid, skip_reason(report)] = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that was skipped, and not because its author has said so for good."""
        reason = skip_reason(report) if report.skipped else ""
        decided = "skip" in report.keywords and not reason.startswith(NO_PARAMETERS)
        if report.skipped and not hasattr(report, "wasxfail") and not decided:
            self._skipped[report.nodeid, reason] = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """When nobody has stopped the run: each is an error."""
        ran = yield
        attendance: Attendance | None = self._config.pluginmanager.get_plugin("harness-attendance")
        for place, reason in attendance.skipped() if attendance is not None else ():
            self._skipped[place, reason] = None
        for where, reason in self._skipped:
            named = own_errors.error(where, f"was skipped: {reason}", when=OPTION)
            self._config.hook.pytest_collectreport(report=named)
        return ran
