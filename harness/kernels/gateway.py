"""What execnet takes for a Python interpreter: standard input and output are those of one inside a virtual machine.

    python -m harness.kernels.gateway --kernel RELEASE --root DIR [--directory DIR] [--real-time] [--user UID] ARGUMENT…

Every value is percent-encoded: execnet takes `//` and `=` for its own.
The machine is restored, or made ready first, before anything is relayed: what is sent to a guest that does not listen
yet is lost. Ends with the machine, and the machine with it.
"""

from __future__ import annotations

import argparse
import os
import select
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from harness.errors import BadInput, HarnessError
from harness.kernels import places, warm
from harness.kernels.machine import Mode, VirtualMachine
from harness.kernels.pulse import Pulse
from harness.kernels.store import Store, Stored, is_path, named
from harness.orphans import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterable

# The variable that names the file in which whoever starts gateways looks for why one has not come up.
TROUBLE = "TCP_HARNESS_TROUBLE"


def command(
    kernel: str,
    root: Path,
    arguments: Iterable[str] = (),
    *,
    directory: Path | None = None,
    real_time: bool = False,
    user: int = 0,
) -> str:
    """This gateway as the value of python= in execnet's word for a worker.

    `arguments` are pytest's, which mean something in `directory` (default: the root).
    """
    words = ["--kernel", quote(kernel, safe=""), "--root", quote(str(root), safe=""), "--user", str(user)]
    words += [] if directory is None else ["--directory", quote(str(directory), safe="")]
    words += ["--real-time"] * real_time
    words += [quote(argument, safe="") for argument in arguments]
    return shlex.join([os.path.normpath(sys.executable), "-m", "harness.kernels.gateway", *words])


def main() -> None:
    """Run one gateway."""
    # Also while a machine is brought up, when nobody looks at standard input: whoever started us has ended, so do we.
    die_with_parent()
    parser = argparse.ArgumentParser()
    parser.add_argument("--kernel", required=True, type=unquote)
    parser.add_argument("--root", required=True, type=lambda value: Path(unquote(value)))
    parser.add_argument("--directory", type=lambda value: Path(unquote(value)))
    parser.add_argument("--real-time", action="store_true")
    parser.add_argument("--user", type=int, default=0)
    parser.add_argument("arguments", nargs="*", type=unquote)
    asked = parser.parse_args(own_words())
    handed_over = False
    try:
        with bring_up(asked) as machine:
            handed_over = True
            relay(machine)
    except (HarnessError, OSError) as error:
        report(str(error), to=None if handed_over else os.environ.get(TROUBLE))
        sys.exit(2)


def bring_up(asked: argparse.Namespace) -> VirtualMachine:
    """The machine asked for, in which an interpreter waits."""
    mode = Mode(simulated=not asked.real_time)
    project = warm.Project(asked.root, tuple(asked.arguments), asked.directory)
    with places.kept(places.cache(), "what machines are made of"):
        machine = warm.start(find(asked.kernel), mode, project, say=warm.Say())
    try:
        variables = {"TCP_HARNESS_OWN_KERNEL": "1"}
        if mode.simulated:
            variables["TCP_HARNESS_SIMULATED_TIME"] = "1"
        warm.become_interpreter(machine, project, variables=variables, user=asked.user)
    except BaseException:
        machine.end()
        raise
    return machine


def own_words() -> list[str]:
    """The command line without what execnet adds to tell an interpreter: -u -c CODE."""
    return sys.argv[1 : sys.argv.index("-u")] if "-u" in sys.argv else sys.argv[1:]


def report(text: str, to: str | None) -> None:
    """Say what went wrong: to the process that waits for the machine, if it wants to know, or on standard error."""
    if to is None:
        print(f"harness: {text}", file=sys.stderr)
        return
    with open(to, "a") as trouble:  # noqa: PTH123 - a file of another process's
        trouble.write(f"{text}\n")


def find(kernel: str) -> Stored:
    """A kernel by the release that it has in the cache, or as the user named it."""
    if is_path(kernel):
        return named(kernel)
    for one in Store(places.kernels()).all():
        if one.release == kernel:
            return one
    raise BadInput(f"kernel {kernel} is not in {places.kernels()}: harness kernels fetch {kernel}")


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
