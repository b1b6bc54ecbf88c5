"""Scripts of packetdrill as tests: with `--tcp-packetdrill PATH` a `.pkt` file is collected, once for each family.

    tcp_basic_server.pkt::ipv4    tcp_basic_server.pkt::ipv4-mapped-ipv6    tcp_basic_server.pkt::ipv6

A worker elsewhere, in a virtual machine or on another host, is sent the packetdrill of this machine.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput, MissingProgram
from harness.files import is_file, there_is
from harness.plugin import failing, parameter
from harness.plugin.fixtures import LABS
from harness.plugin.kernels import is_elsewhere, plan_of
from harness.plugin.kernels import name_of as kernel_name_of
from harness.plugin.options import setting
from harness.plugin.process import is_worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _pytest._code.code import ExceptionInfo, TerminalRepr
    from xdist.workermanage import WorkerController

    from harness.traffic.packetdrill import Outcome

SUFFIX = ".pkt"
# What a worker elsewhere is told: packetdrill and its libraries, as harness.kernels.portable packs them.
SENT = "harness_packetdrill"
# The words that start packetdrill.
PROGRAM = pytest.StashKey[list[str]]()
# So many lines of a script are shown before and after the one that packetdrill names.
AROUND = 6


def begin(config: pytest.Config) -> None:
    """Find packetdrill, if it is wanted; UsageError where it cannot be had."""
    sent: dict[str, bytes] | None = getattr(config, "workerinput", {}).get(SENT)
    if sent:
        from harness.kernels import portable

        directory = Path(tempfile.mkdtemp(prefix="packetdrill-"))
        config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))
        config.stash[PROGRAM] = portable.unpack(sent, directory)
        return
    wanted = _wanted(config)
    if not wanted:
        _refuse_scripts(config)
    elif not is_elsewhere(config):
        config.option.tcp_packetdrill = wanted
        if not config.getoption("collectonly") and not is_worker(config):
            _check(config, wanted)
        config.stash[PROGRAM] = [wanted]


def _wanted(config: pytest.Config) -> str:
    """The path of packetdrill that the option, or the setting, names; "" for none."""
    option: str | None = config.getoption("tcp_packetdrill")
    if option:
        return _absolute(option, config.invocation_params.dir)
    set_to: str = setting(config, "packetdrill")
    return _absolute(set_to, config.inipath.parent if config.inipath else config.rootpath) if set_to else ""


def _absolute(program: str, directory: Path) -> str:
    """A program by its path, or by its name as a shell finds it."""
    here = Path(os.path.normpath(directory / program))
    return (None if "/" in program or is_file(here) else shutil.which(program)) or str(here)


def _refuse_scripts(config: pytest.Config) -> None:
    """UsageError for a script that is named where there is no packetdrill: pytest would say that it is not found."""
    named = [argument for argument in config.args if argument.partition("::")[0].endswith(SUFFIX)]
    if named and not is_worker(config):
        raise pytest.UsageError(f"{named[0]}: a script of packetdrill needs --tcp-packetdrill PATH, the program")


def _check(config: pytest.Config, program: str) -> None:
    """UsageError if the program cannot be run, or virtual machines would lack what scripts start."""
    from harness.lab.program import find
    from harness.traffic import packetdrill

    if not shutil.which(program):
        what = "it is not a program that can be run" if there_is(program) else "there is no such file"
        raise pytest.UsageError(f"--tcp-packetdrill {program}: {what}; docs/packetdrill.md says how it is built")
    plan = plan_of(config)
    if plan is not None and any(target.is_virtual for target in plan.targets):
        try:
            for name in packetdrill.PROGRAMS:
                find(name)
        except MissingProgram as error:
            raise pytest.UsageError(
                f"--tcp-packetdrill: scripts start programs that machines have from here: {error}"
            ) from None


def tell_worker(node: WorkerController) -> None:
    """Send packetdrill to a worker that does not see this machine's files."""
    if kernel_name_of(node) is None or node.config.stash.get(PROGRAM, None) is None:
        return
    from harness.kernels import portable
    from harness.kernels.targets import Running

    if kernel_name_of(node) != Running.NAME:
        (program,) = node.config.stash[PROGRAM]
        node.workerinput[SENT] = portable.pack(Path(program))


def collect(path: Path, parent: pytest.Collector) -> ScriptFile | None:
    """What pytest takes a file for: a script, where there is a packetdrill to run it."""
    if path.suffix == SUFFIX and PROGRAM in parent.config.stash:
        return ScriptFile.from_parent(parent, path=path)
    return None


class ScriptFile(pytest.File):
    """A script of packetdrill."""

    def collect(self) -> Iterator[Script]:
        """A test for each way to run it, and each kernel."""
        from harness.traffic import packetdrill

        try:
            modes = packetdrill.modes_of(self.path, self.path.read_text(errors="replace"))
        except BadInput as error:
            raise self.CollectError(str(error)) from None
        for mode in modes:
            for kernel in parameter.names(self.config) or [""]:
                name = f"{mode}[{kernel}]" if kernel else mode
                yield Script.from_parent(self, name=name, mode=mode)


class Script(pytest.Item):
    """A script, to be run in one way."""

    def __init__(self, *, mode: str, **words: object) -> None:
        super().__init__(**words)  # type: ignore[arg-type]
        self.mode = mode

    def setup(self) -> None:
        """A lab with a host that nothing is linked to."""
        from harness.lab import Lab

        lab = Lab()
        self.stash[LABS] = [lab]
        self.addfinalizer(self._close)

    def _close(self) -> None:
        for lab in self.stash[LABS]:
            lab.close()
        self.stash[LABS] = []

    def runtest(self) -> None:
        """Run it; ScriptFailed if packetdrill was not content."""
        from harness.traffic import packetdrill

        program = self.config.stash[PROGRAM]
        (lab,) = self.stash[LABS]
        is_slow = packetdrill.IS_SLOW in os.environ
        outcome = packetdrill.run(
            lab.host("packetdrill"),
            program,
            self.path,
            self.mode,
            tolerance=packetdrill.SLOW_TOLERANCE if is_slow else None,
        )
        if not outcome.passed:
            raise ScriptFailed(outcome)

    def repr_failure(  # type: ignore[override]
        self, excinfo: ExceptionInfo[BaseException], style: None = None
    ) -> str | TerminalRepr:
        """What packetdrill complains of, then all that it said, then the script around the line that it names."""
        error = excinfo.value
        if not isinstance(error, ScriptFailed):
            return super().repr_failure(excinfo, style)
        outcome = error.outcome
        more = [*outcome.output.splitlines(), *self._around(outcome.line)]
        return failing.plainly(self.path, outcome.line or 1, outcome.complaint, more)

    def _around(self, number: int | None) -> Iterator[str]:
        """The script's lines around one of them, that one marked; all of it without a number."""
        lines = self.path.read_text(errors="replace").splitlines()
        first, last = (1, len(lines)) if number is None else (number - AROUND, number + AROUND)
        for n, line in enumerate(lines, start=1):
            if first <= n <= last:
                yield f"{'>' if n == number else ' '}{n:4}  {line}"

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where it stands, and its name."""
        return self.path, 0, f"{self.path.name} {self.name}"


class ScriptFailed(Exception):
    """packetdrill was not content with what the kernel did."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.complaint)
        self.outcome = outcome
