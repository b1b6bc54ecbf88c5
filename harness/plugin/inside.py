"""--pdb, --trace, --tcp-hold, --tcp-gdb with --tcp-kernel: pytest itself runs in the machine, with our terminal.

Workers of pytest-xdist have no terminal. So without them: one machine after the other, in each the same command line,
whose options about kernels mean nothing there. What is written in a machine is gone with it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import HarnessError
from harness.kernels.targets import meant
from harness.plugin import kernels, world
from harness.plugin.kernels import INSIDE
from harness.plugin.options import in_pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.kernels.machine import VirtualMachine
    from harness.kernels.project import File, Project
    from harness.kernels.store import Stored
    from harness.kernels.targets import Target

# Who waits at the terminal, by the name of the option.
WAITS = {"usepdb": "--pdb", "trace": "--trace", "tcp_hold": "--tcp-hold", "tcp_gdb": "--tcp-gdb"}
# What would be written and be gone.
WRITES = {
    "tcp_report": "--tcp-report",
    "tcp_ktap": "--tcp-ktap",
    "tcp_kcidb": "--tcp-kcidb",
    "xmlpath": "--junitxml",
    "tcp_baseline": "--tcp-baseline",
}


def is_inside() -> bool:
    """Whether this is the pytest in a machine."""
    return INSIDE in os.environ


def begin(config: pytest.Config) -> None:
    """In a machine: leave out what chose it, and workers."""
    if is_inside():
        option = config.option
        option.tcp_kernel, option.tcp_gdb = [], False
        option.numprocesses, option.dist, option.tx = None, "no", []


def is_wanted(config: pytest.Config) -> str:
    """The option because of which pytest is to run in the machine; "" if none is given."""
    if is_inside() or config.getoption("collectonly"):
        return ""
    waiting = [written for name, written in WAITS.items() if config.getoption(name, False)]
    if waiting and not config.getoption("tcp_kernel"):
        if waiting == ["--tcp-gdb"]:
            raise pytest.UsageError("--tcp-gdb: name a kernel that runs in a virtual machine, --tcp-kernel 6.12")
        return ""
    return waiting[0] if waiting else ""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Run pytest in the machines, if that is wanted."""
    if not (option := is_wanted(config)):
        return None
    try:
        return run(config, option)
    except HarnessError as error:
        raise pytest.UsageError(in_pytest(str(error))) from None


def run(config: pytest.Config, option: str) -> int:
    """Run pytest in a machine of each kernel, one after the other; the exit code is the last that is not 0."""
    from harness.kernels.machine import MachineDied

    _refuse_what_makes_no_sense(config, option)
    targets = meant(config.getoption("tcp_kernel"), kernels.ways(config))
    for target in targets:
        if not target.is_virtual:
            raise pytest.UsageError(
                f"{option} --tcp-kernel {target.name}: it waits in a machine of ours, or, on the running kernel, "
                "without --tcp-kernel"
            )
    project = world.project_of(config, targets)
    capturing = config.pluginmanager.getplugin("capturemanager")
    if capturing is not None:
        capturing.suspend_global_capture(in_=True)
    code = 0
    for target in targets:
        try:
            code = _run_in(config, target, project) or code
        except MachineDied as error:
            print(f"harness: {in_pytest(str(error))}", file=sys.stderr)
            code = int(pytest.ExitCode.TESTS_FAILED)
    return code


def _refuse_what_makes_no_sense(config: pytest.Config, option: str) -> None:
    if config.getoption("numprocesses", None):
        raise pytest.UsageError(f"{option} waits at the terminal, which workers do not have: leave out -n")
    for name, written in WRITES.items():
        if config.getoption(name, None):
            raise pytest.UsageError(f"{written}: with {option} what is written stays in the machine, which ends")


def _run_in(config: pytest.Config, target: Target, project: Project) -> int:
    from harness.kernels import debugger, terminal, warm

    stored = target.stored()
    assert stored is not None
    mode = kernels.mode_of(config, [target])
    is_debugged: bool = config.getoption("tcp_gdb")
    argv = [sys.executable, "-m", "pytest", *config.invocation_params.args]
    also = {**terminal.description(), **_remembered(config)}
    with contextlib.ExitStack() as stack:
        gdb = stack.enter_context(debugger.socket()) if is_debugged else None
        mode = debugger.mode(mode) if is_debugged else mode
        machine = stack.enter_context(warm.waiting(stored, mode, project, also=also, gdb=gdb, say=warm.Say()))
        if gdb is not None:
            _wait_for(machine, stored, gdb)
        return terminal.run(
            machine,
            argv,
            directory=str(project.place),
            variables=warm.variables(mode) | {INSIDE: target.name},
            terminal=terminal.has_terminal(),
            watched=not is_debugged,
        )


def _wait_for(machine: VirtualMachine, kernel: Stored, gdb: Path) -> None:
    """Stop the machine until a debugger lets it go on, and say how one comes to it."""
    from harness.kernels import debugger

    for line in debugger.advice(kernel, gdb):
        print(f"harness: {line}", file=sys.stderr)
    print("harness: the machine waits until the debugger continues it", file=sys.stderr, flush=True)
    machine.pause()


def _remembered(config: pytest.Config) -> Mapping[str, File]:
    """What failed the last time (--lf), where pytest looks for it."""
    from harness.kernels.project import File

    if not config.pluginmanager.has_plugin("cacheprovider"):
        return {}
    place = Path(config.rootpath, os.path.expandvars(config.getini("cache_dir"))).expanduser()
    file = place / "v" / "cache" / "lastfailed"
    return {str(file)[1:]: File(file.read_bytes(), 0o644)} if file.is_file() else {}
