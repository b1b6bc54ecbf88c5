"""A run that left tests out does not look complete: how many, and why, is the last thing that it says.

With --all-must-run it fails, unless each reason is one of those below: what no installation brings.
"""

from __future__ import annotations

import re
from collections import Counter

import pytest

from harness.plugin.text import skip_reason

OPTION = "--all-must-run"
# What a machine may lack, each with why nothing can be done about it from here.
CANNOT_BE_HAD = {
    r"packetdrill is not installed": "Debian has no package of it, and its source is no part of this project",
    r"does not lie beside this clone": "the documents are not published with the project",
    r"(this|the) kernel has no |netem of this kernel|no netem|sch_netem": "the kernel of the machine is as it is",
    r"/dev/net/tun|/dev/kvm|KVM": "a container may have no devices",
    r"tracefs|tracepoint|drop reasons|skb:kfree_skb": "a container's kernel may keep its tracing to itself",
    r"kernel log|/dev/kmsg": "a container's kernel may keep its log to itself",
    r"user namespace|namespaces? (of our own )?can(not)? be made|mounted here": "a container may forbid them",
    r"the other tests are an ordinary user's already|only root has|needs root|"
    r"are root there": "it is the other user's test",
    r"has no shell to log in with": "the user is as the machine has it",
    r"this machine is too small|is not asked|of this machine is large enough": "the machine is as it is",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option of CI."""
    parser.addoption(OPTION, action="store_true", help="a test that is skipped fails the run, but for want of what no "
                                                       "installation brings (tests/incomplete.py)")  # fmt: skip


def reasons(config: pytest.Config) -> Counter[str]:
    """Why tests were skipped, and how often."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    return Counter(map(skip_reason, terminal.stats.get("skipped", ()))) if terminal else Counter()


def is_had(reason: str) -> bool:
    """Whether what a test was skipped for could have been here."""
    return not any(re.search(pattern, reason, re.IGNORECASE) for pattern in CANNOT_BE_HAD)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that is to be whole and is not."""
    must = session.config.getoption(OPTION, False)
    if must and session.exitstatus == pytest.ExitCode.OK and any(map(is_had, reasons(session.config))):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell of what was skipped, the most frequent reason first."""
    skipped = terminalreporter.stats.get("skipped", ())
    if not skipped:
        return
    ran = sum(len(terminalreporter.stats.get(outcome, ())) for outcome in ("passed", "failed", "xfailed", "xpassed"))
    terminalreporter.section("not complete", yellow=True, bold=True)
    terminalreporter.write_line(f"{len(skipped)} of {ran + len(skipped)} tests did not run", yellow=True)
    must = terminalreporter.config.getoption(OPTION, False)
    for reason, times in reasons(terminalreporter.config).most_common():
        mark = ": it could be had, and so the run has failed" if must and is_had(reason) else ""
        terminalreporter.write_line(f"  {times} × {reason}{mark}", red=bool(mark))
