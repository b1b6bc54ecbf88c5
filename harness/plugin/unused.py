"""Plugins that would import a library at the end of a run in which nothing needed it.

Hypothesis's plugin imports all of Hypothesis to ask whether it has written observations, also where no test uses it:
a quarter of what pytest costs with an empty test. What is not imported has written none.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

# Its plugin by the name of its entry point; how the names of what that leaves on reports begin.
LIBRARY, PLUGIN, ON_REPORTS = "hypothesis", "hypothesispytest", "_hypothesis"
STATISTICS = "--hypothesis-show-statistics"


def leave_out(config: pytest.Config) -> None:
    """Before the summary, take out Hypothesis's plugin if it has nothing to tell, here or of a worker."""
    plugin = config.pluginmanager.get_plugin(PLUGIN)
    if plugin is None or LIBRARY in sys.modules or config.getoption(STATISTICS, default=True):
        return
    if not any(name.startswith(ON_REPORTS) for report in _reports(config) for name in vars(report)):
        config.pluginmanager.unregister(plugin)


def _reports(config: pytest.Config) -> Iterator[object]:
    """Those that the summary is made of."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    for reports in getattr(terminal, "stats", {}).values():
        yield from (report for report in reports if hasattr(report, "__dict__"))
