"""What execnet takes for a Python interpreter: standard input and output are those of one inside a virtual machine.

    python -m harness.kernels.gateway (--release RELEASE | --image FILE [--modules DIR]) --root DIR [--directory DIR]
                                      [--world FILE] [--mode JSON] [--user UID] [--only-make] ARGUMENT…

The machine is restored, or made ready first, before anything is relayed: what is sent to a guest that does not listen
yet is lost. Ends with the machine, and the machine with it. With --only-make what a machine is restored from is made,
and none is started.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import msgspec

from harness.errors import HarnessError
from harness.kernels import interpreters, places, store, warm
from harness.kernels.mode import Mode
from harness.kernels.project import Project
from harness.kernels.pulse import Pulse
from harness.orphans import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from harness.kernels.machine import VirtualMachine


ONLY_MAKE = "--only-make"


def is_gateway(command: str) -> bool:
    """Whether a program that execnet takes for Python is a gateway."""
    return f" -m {__name__} " in command


def command(kernel: Sequence[str], project: Project, mode: Mode | None = None, *, user: int = 0) -> str:
    """This gateway as the value of python= in execnet's word for a worker; `kernel` are the options that say which."""
    words = [*kernel, "--root", str(project.root), "--directory", str(project.place), "--user", str(user)]
    words += [] if project.world is None else ["--world", str(project.world)]
    words += [] if project.rewritten else ["--not-rewritten"]
    words += [word for place in project.written for word in ("--written", str(place))]
    words += ["--mode", msgspec.json.encode(mode or Mode()).decode()]
    return interpreters.command(__name__, [*words, *project.arguments])


def main() -> None:
    """Run one gateway."""
    # Also while a machine is brought up, when nobody looks at standard input: whoever started us has ended, so do we.
    die_with_parent()
    # Ctrl-C at the terminal is for pytest, which ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked = parser().parse_args(interpreters.own_words())
    handed_over = False
    try:
        if asked.only_make:
            with _writing():
                warm.make(_kernel(asked), asked.mode, _project(asked), say=warm.Say())
            return
        with bring_up(asked) as machine:
            handed_over = True
            relay(machine)
    except (HarnessError, OSError) as error:
        interpreters.report(str(error), came_up=handed_over)
        sys.exit(2)


def parser() -> argparse.ArgumentParser:
    """Of the words that command() makes."""
    parser = argparse.ArgumentParser()
    kernel = parser.add_mutually_exclusive_group(required=True)
    kernel.add_argument("--release", type=unquote)
    kernel.add_argument("--image", type=_path)
    parser.add_argument("--modules", type=_path)
    parser.add_argument("--root", required=True, type=_path)
    parser.add_argument("--directory", type=_path)
    parser.add_argument("--world", type=_path)
    parser.add_argument("--written", action="append", default=[], type=_path)
    parser.add_argument("--not-rewritten", dest="rewritten", action="store_false")
    parser.add_argument("--mode", type=_mode, default=Mode())
    parser.add_argument("--user", type=int, default=0)
    parser.add_argument(ONLY_MAKE, action="store_true")
    parser.add_argument("arguments", nargs="*", type=unquote)
    return parser


def _path(value: str) -> Path:
    return Path(unquote(value))


def _mode(value: str) -> Mode:
    return msgspec.json.decode(unquote(value), type=Mode)


def bring_up(asked: argparse.Namespace) -> VirtualMachine:
    """The machine asked for, in which an interpreter waits."""
    mode: Mode = asked.mode
    project = _project(asked)
    with _writing():
        kept = os.environ.get(interpreters.CONSOLES)
        consoles = Path(kept) if kept else None
        machine = warm.start(_kernel(asked), mode, project, consoles=consoles, say=warm.Say())
    try:
        warm.become_interpreter(machine, project, variables=warm.variables(mode), user=asked.user)
    except BaseException:
        machine.end()
        raise
    return machine


def _writing() -> AbstractContextManager[None]:
    return places.writing(places.cache(), "what machines are made of")


def _project(asked: argparse.Namespace) -> Project:
    written = tuple(asked.written)
    return Project(asked.root, tuple(asked.arguments), asked.directory, written, asked.world, asked.rewritten)


def _kernel(asked: argparse.Namespace) -> store.Stored:
    if asked.image is not None:
        return store.built(asked.image, asked.modules)
    return store.Store(places.kernels()).of_release(asked.release)


def relay(machine: VirtualMachine) -> None:
    """Pass bytes both ways until one side ends; MachineDied if the machine did, on its own, or shows no life."""
    port = machine.port.fileno()
    pulse = Pulse(machine)
    os.set_blocking(0, False)
    while True:
        readable, _, _ = select.select([0, port], [], [], 0.5)
        if port in readable:
            data = os.read(port, 1 << 16)
            if not data:
                raise machine.died("it ended")
            _write_all(1, data)
            pulse.heard()
        if 0 in readable:
            data = os.read(0, 1 << 16)
            if not data:
                return
            _write_all(port, data)
        if not readable and machine.process.poll() is not None:
            raise machine.died("QEMU ended")
        if not readable and (wrong := pulse.wrong()):
            raise machine.died(wrong)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


if __name__ == "__main__":
    main()
