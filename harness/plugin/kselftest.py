"""The kernel's test programs as tests: with `--tcp-kselftest` those that are named, or that a Makefile there names.

    altnames.sh::program    bind_wildcard::program    bind_wildcard::v4_v6.bind

One test runs a program. What it prints in KTAP becomes results of their own, which stand beside it; the program's own
is whether it ended well. They set up the machine as they please, and so run in a kernel that is ours alone.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from harness.plugin import beside, failing, parameter, selftests
from harness.plugin.fixtures import LABS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from _pytest._code.code import ExceptionInfo, TerminalRepr

    from harness.observe.ktap import Result
    from harness.traffic.kselftest import Ended

# What the run of a program is called, beside its results.
NAME = "program"
# So many of the last lines of what a program printed are shown.
SHOWN = 60
# Results of a program, each with a name of its own.
RESULTS = pytest.StashKey[list[tuple[str, "Result"]]]()


def attach(item: pytest.Item, report: pytest.TestReport) -> None:
    """Let the results of a program come with the report of its run."""
    if isinstance(item, Program) and report.when == "call":
        results = (_of_result(report, name, one) for name, one in item.stash.get(RESULTS, []))
        beside.add(item.config, report, results)


def collect(path: Path, parent: pytest.Collector) -> ProgramFile | None:
    """What pytest takes a file for: a program, where they are wanted."""
    if parent.config.getoption("tcp_kselftest") and selftests.is_wanted(parent.config, path):
        return ProgramFile.from_parent(parent, path=path)
    return None


class ProgramFile(pytest.File):
    """A test program of the kernel's."""

    def collect(self) -> Iterator[Program]:
        """A test for each kernel."""
        for kernel in parameter.names(self.config) or [""]:
            yield Program.from_parent(self, name=f"{NAME}[{kernel}]" if kernel else NAME)


class Program(pytest.Item):
    """A test program, to be run."""

    def setup(self) -> None:
        """A lab with a host that nothing is linked to, on a kernel that is ours alone."""
        from harness.lab import Lab, machine

        if not machine.is_ours():
            pytest.skip(
                "needs a kernel of its own (--tcp-kernel, or --tcp-own-kernel): it sets up the machine as it pleases"
            )
        lab = Lab()
        self.stash[LABS] = [lab]
        self.addfinalizer(self._close)
        machine.turns.alone()

    def _close(self) -> None:
        for lab in self.stash[LABS]:
            lab.close()
        self.stash[LABS] = []

    def runtest(self) -> None:
        """Run it, and tell of its results; NotOk if it has failed."""
        from harness.traffic import kselftest

        (lab,) = self.stash[LABS]
        ended = kselftest.run(lab.host("kselftest"), self.path)
        self.stash[RESULTS] = list(_each_by_its_name(ended.results))
        if ended.complaint:
            raise NotOk(self.path.name, ended)
        if ended.skipped is not None:
            raise pytest.skip.Exception(ended.skipped, _use_item_location=True)

    def repr_failure(  # type: ignore[override]
        self, excinfo: ExceptionInfo[BaseException], style: None = None
    ) -> str | TerminalRepr:
        """Why it has failed, then the end of what it printed."""
        if not isinstance(excinfo.value, NotOk):
            return super().repr_failure(excinfo, style)
        return failing.plainly(self.path, 1, str(excinfo.value), excinfo.value.output[-SHOWN:])

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where it stands, and its name."""
        return self.path, 0, f"{self.path.name} {self.name}"


class NotOk(Exception):
    """A program has failed."""

    def __init__(self, name: str, ended: Ended) -> None:
        super().__init__(f"{name}: {ended.complaint}")
        self.output = ended.output.splitlines()


def _each_by_its_name(results: tuple[Result, ...]) -> Iterator[tuple[str, Result]]:
    """Results with names that tell them apart."""
    seen: Counter[str] = Counter()
    for result in results:
        name = result.name.replace("::", ":").replace("[", "(").replace("]", ")")
        seen[name] += 1
        yield (name if seen[name] == 1 else f"{name} ({seen[name]})"), result


def _of_result(whole: pytest.TestReport, name: str, result: Result) -> pytest.TestReport:
    """The report of one of a program's results."""
    place, line, _ = whole.location
    file, _, of_program = whole.nodeid.rpartition("::")
    own = f"{name}{of_program.removeprefix(NAME)}"
    shown: object = None
    if result.outcome == "skipped":
        shown = (place, 0, f"Skipped: {result.reason or 'it says that it cannot run here'}")
    elif result.outcome == "failed":
        because = f": {result.reason}" if result.reason else ""
        shown = failing.plainly(place, 1, f"{name}: not ok{because}", result.said[-SHOWN:])
    return pytest.TestReport(f"{file}::{own}", (place, line, own), {}, result.outcome, shown, "call")  # type: ignore[arg-type]
