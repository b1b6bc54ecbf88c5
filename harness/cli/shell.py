"""`harness shell`: a shell, or a command, in a machine with a kernel, where the project and its labs are."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.archive import archive_options
from harness.cli.machine import machine_options
from harness.cli.notes import note
from harness.errors import BadInput

if TYPE_CHECKING:
    from harness.cli.machine import Machine
    from harness.kernels.mode import Mode
    from harness.kernels.project import Project
    from harness.kernels.selection import Selection

# Where a project begins: what pytest looks for, and a repository.
BEGINS = ("pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg", ".git")


@click.command()
@click.argument("kernel", metavar="KERNEL|TREE|IMAGE")
@click.argument("command", nargs=-1, metavar="[-- COMMAND...]")
@click.option(
    "--project", metavar="DIR", type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="the directory to bring there (default: the project of the current directory)",
)  # fmt: skip
@click.option(
    "--guest-program", "programs", metavar="NAME", multiple=True, help="bring this program of this machine (repeatable)"
)
@click.option(
    "--guest-package", "packages", metavar="NAME", multiple=True, help="bring this Debian package (repeatable)"
)
@click.option("--gdb", is_flag=True, help="print how to attach gdb to its kernel")
@machine_options
@archive_options
@click.pass_context
def shell(
    context: click.Context,
    *,
    kernel: str,
    command: tuple[str, ...],
    project: Path | None,
    programs: tuple[str, ...],
    packages: tuple[str, ...],
    gdb: bool,
    machine: Machine,
    selection: Selection,
) -> None:
    """Start a shell, or a command, in a virtual machine with a kernel.

    The kernel is whatever pytest's --tcp-kernel takes. The project is at its own path there, and so is Python with all
    that labs need: `python -m pytest` runs scenarios on that kernel. Nothing that you write there stays. The
    machine ends with the shell, or by Ctrl-]; the exit code is the shell's.
    """
    from harness.cli.question import the_kernel
    from harness.kernels import debugger, terminal, warm
    from harness.kernels.world import Wishes, gather

    target = the_kernel(kernel, selection)
    stored = target.stored()
    if stored is None:
        raise BadInput(f"{kernel}: it runs in no virtual machine; open a shell on that host yourself")
    brought, directory = _project(project)
    brought = dataclasses.replace(brought, world=gather(Wishes(brought.root, programs=programs, packages=packages)))
    has_terminal = terminal.has_terminal()
    with contextlib.ExitStack() as stack:
        socket = stack.enter_context(debugger.socket()) if gdb else None
        mode = debugger.mode(machine.mode) if gdb else machine.mode
        waiting = warm.waiting(stored, mode, brought, also=terminal.description(), gdb=socket, say=note)
        started = stack.enter_context(waiting)
        for line in debugger.advice(stored, socket) if socket else ():
            note(line)
        argv = command or ("bash", *(["-i"] if has_terminal else []))
        if has_terminal and not command:
            _explain(mode)
        context.exit(
            terminal.run(
                started,
                argv,
                directory=directory,
                variables=_variables(mode, target.name),
                terminal=has_terminal,
                watched=not gdb,
            )
        )


def _project(named: Path | None) -> tuple[Project, str]:
    """What is brought, and where the shell begins: the project that was named, or that one is in, or ours alone."""
    from harness.kernels.project import PACKAGE, Project

    here = Path.cwd()
    root = named.absolute() if named else next(
        (place for place in (here, *here.parents) if any((place / name).exists() for name in BEGINS)), None
    )  # fmt: skip
    if root is None:
        return Project(PACKAGE), "/root"
    project = Project(root, directory=here)
    return project, str(project.place)


def _variables(mode: Mode, name: str) -> dict[str, str]:
    """What the shell's environment has beside the usual."""
    from harness.kernels import guest, warm

    return warm.variables(mode) | {"PATH": f"{Path(sys.executable).parent}:{guest.PATH}", "PS1": rf"\u@{name}:\w\$ "}


def _explain(mode: Mode) -> None:
    note("exit or Ctrl-] ends the machine")
    if mode.simulated:
        note("its time is simulated: hours pass there while it waits for you; --real-time gives it an ordinary clock")
