"""A run that left tests out does not look complete: how many, and why, is the last thing that it says."""

from __future__ import annotations

from collections import Counter

import pytest

from harness.plugin.text import skip_reason


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell of what was skipped, the most frequent reason first."""
    skipped = terminalreporter.stats.get("skipped", ())
    if not skipped:
        return
    ran = sum(len(terminalreporter.stats.get(outcome, ())) for outcome in ("passed", "failed", "xfailed", "xpassed"))
    reasons = Counter(map(skip_reason, skipped))
    terminalreporter.section("not complete", yellow=True, bold=True)
    terminalreporter.write_line(f"{len(skipped)} of {ran + len(skipped)} tests did not run", yellow=True)
    for reason, times in reasons.most_common():
        terminalreporter.write_line(f"  {times} × {reason}")
