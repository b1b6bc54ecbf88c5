"""A plugin of pytest (-p bench.profile.plugin): what each test costs, natively and in machines, into a file of JSON.

Whoever runs tests puts on the report of a test's end what it has spent, by part. Whoever is at the terminal adds what
the worker's machine, QEMU, has spent meanwhile: that is what a kernel in the matrix costs.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.profile import clock, sampler

if TYPE_CHECKING:
    from collections.abc import Generator

FILE, FUNCTIONS = "--profile-file", "--profile-functions"
# The attribute of a report.
COSTS = "bench_costs"
GUEST = "TCP_HARNESS_GUEST"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the measurements go, and whether functions are sampled."""
    group = parser.getgroup("bench")
    group.addoption(FILE, metavar="FILE", help="what each test cost, as JSON")
    group.addoption(FUNCTIONS, action="store_true", help="sample functions, of kernel and interpreter")


def pytest_configure(config: pytest.Config) -> None:
    """In workers, and where there are none, tests run; at the terminal their reports come in."""
    worker = hasattr(config, "workerinput")
    if not worker:
        config.pluginmanager.register(Terminal(Path(config.getoption(FILE) or "profile.json")))
    if worker or not config.getoption("tx", None):
        config.pluginmanager.register(Runner(functions=config.getoption(FUNCTIONS)))


class Runner:
    """Where tests run."""

    def __init__(self, *, functions: bool) -> None:
        self.parts = clock.Parts()
        self.in_guest = GUEST in os.environ
        self.before: dict[str, float] = {}
        self.sampler = sampler.Sampler() if functions else None
        self.session = {"starting": clock.own()}
        self._instrument()

    def _instrument(self) -> None:
        from harness.claims.phases import LivePhase
        from harness.claims.record import ClaimRun
        from harness.lab import Lab
        from harness.observe import diag, proc_net
        from harness.plugin import claims

        for name in ("__init__", "host", "link", "switch", "gateway", "ready"):
            self.parts.around(Lab, name, "lab up")
        self.parts.around(Lab, "close", "lab down")
        for owner, names in ((LivePhase, ("__enter__", "__exit__")), (ClaimRun, ("as_evidence", "stop_captures"))):
            for name in names:
                self.parts.around(owner, name, "evidence")
        self.parts.around(claims, "attach", "evidence")
        self.parts.beside(diag, "_converse", "socket tables")
        self.parts.beside(proc_net, "read", "counters")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        """What collecting takes."""
        began = clock.own()
        self.session["starting"] = began
        try:
            return (yield)
        finally:
            self.session["collecting"] = clock.own() - began

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """A test begins and ends."""
        del item
        self.before = self._now()
        if self.sampler is not None:
            self.sampler.begin()
        self.parts.take()
        self.parts.enter("pytest")
        try:
            return (yield)
        finally:
            self.parts.leave()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, object, object]:
        """Fixtures: mostly the lab."""
        self.parts.enter("pytest")
        try:
            return (yield)
        finally:
            self.parts.leave()

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        """The test's own code."""
        self.parts.enter("experiment")
        try:
            return (yield)
        finally:
            self.parts.leave()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """On the last report of a test: what it has cost."""
        del item
        report = yield
        if report.when == "teardown":
            now = self._now()
            spent, calls = self.parts.take()
            costs: dict[str, Any] = {name: now[name] - self.before[name] for name in now}
            costs |= {"parts": spent, "calls": calls, "session": self.session}
            if self.sampler is not None:
                costs["functions"] = self.sampler.end()
            setattr(report, COSTS, costs)
        return report

    def _now(self) -> dict[str, float]:
        now = {"wall": time.monotonic(), "own": clock.own(), **clock.split()}
        return now | ({"busy": clock.machine_busy()} if self.in_guest else {})


class Terminal:
    """Where reports come in, of all workers."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.tests: list[dict[str, Any]] = []
        self.starts: list[dict[str, Any]] = []
        # By worker: its machine's process, and what that had spent when it was last looked at.
        self.machines: dict[str, tuple[int, float]] = {}

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: Any) -> None:
        """A machine has been restored; pytest starts and collects in it from here on."""
        popen = getattr(node.gateway._io, "popen", None)  # noqa: SLF001 - execnet has no other way to its process
        for child in clock.children_of(popen.pid) if popen is not None else ():
            spent = clock.of_process(child)
            self.machines[node.gateway.id] = (child, spent)
            self.starts.append({"worker": node.gateway.id, "restoring": spent})

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any) -> None:
        """It has collected."""
        if node.gateway.id in self.machines:
            self.starts.append({"worker": node.gateway.id, "starting and collecting": self._since(node)})

    def _since(self, node: Any) -> float:
        pid, before = self.machines[node.gateway.id]
        now = clock.of_process(pid)
        self.machines[node.gateway.id] = (pid, now)
        return now - before

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test has ended."""
        costs = getattr(report, COSTS, None)
        if costs is None:
            return
        node = getattr(report, "node", None)
        if node is not None and node.gateway.id in self.machines:
            costs["qemu"] = self._since(node)
        worker = "" if node is None else node.gateway.id
        self.tests.append({"test": report.nodeid, "worker": worker, **costs})
        # Each time: what has been measured when a run is given up is worth as much.
        self.file.write_text(json.dumps({"starts": self.starts, "tests": self.tests}))
