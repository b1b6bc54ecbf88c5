"""--tcp-hold: a failed test's lab stays as it is until the user has looked at it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from harness.plugin import inside
from harness.plugin.fixtures import LABS
from harness.plugin.process import distributes

if TYPE_CHECKING:
    from harness.lab import Lab


def begin(config: pytest.Config) -> None:
    """With --tcp-hold, wait at the terminal when a test fails; workers have none."""
    if not config.getoption("tcp_hold"):
        return
    if distributes(config):
        raise pytest.UsageError("--tcp-hold waits at the terminal, which workers do not have: run with -n 0")
    config.pluginmanager.register(HoldLab(config), "harness-hold")


class HoldLab:
    """Waits at the terminal after a failure, before the fixtures of the test are torn down."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_exception_interact(self, node: pytest.Item | pytest.Collector, report: pytest.CollectReport) -> None:
        """Hold the lab of a test whose call failed."""
        labs = node.stash.get(LABS, None)
        if labs and getattr(report, "when", None) == "call":
            self._hold(node.nodeid, labs)

    def _hold(self, nodeid: str, labs: list[Lab]) -> None:
        capturing = self.config.pluginmanager.getplugin("capturemanager")
        if capturing is not None:
            capturing.suspend(in_=True)
        try:
            _wait_at_terminal(nodeid, labs)
        finally:
            if capturing is not None:
                capturing.resume()


def _wait_at_terminal(nodeid: str, labs: list[Lab]) -> None:
    print(f"\n\nheld: {nodeid}")
    for lab in labs:
        width = max(map(len, lab.all_hosts), default=0)
        for name, host in lab.all_hosts.items():
            print(f"  {name:<{width}}  {host.enter_command()}")
    if inside.is_inside():
        print("a shell in the machine; its end lets go of the lab", flush=True)
        subprocess.run(["bash", *(["-i"] if os.isatty(0) else [])], check=False)
        return
    try:
        print("Enter lets go of the lab.", flush=True)
        input()
    except (EOFError, KeyboardInterrupt):
        print()
