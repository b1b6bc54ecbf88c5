"""What execnet takes for a Python interpreter: standard input and output are those of one inside a virtual machine.

    python -m harness.kernels.gateway --kernel RELEASE --root DIR [--real-time] [--user UID] ARGUMENT…

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

from harness.errors import HarnessError
from harness.kernels import places, warm
from harness.kernels.machine import Machine, Mode, die_with_parent
from harness.kernels.store import Store, Stored, named

if TYPE_CHECKING:
    from collections.abc import Iterable


def command(kernel: str, root: Path, arguments: Iterable[str] = (), *, real_time: bool = False, user: int = 0) -> str:
    """This gateway as the value of python= in execnet's word for a worker."""
    words = ["--kernel", quote(kernel, safe=""), "--root", quote(str(root), safe=""), "--user", str(user)]
    words += ["--real-time"] * real_time
    words += [quote(argument, safe="") for argument in arguments]
    return shlex.join([os.path.normpath(sys.executable), "-m", "harness.kernels.gateway", *words])


def main() -> None:
    """Run one gateway."""
    # Also while a machine is brought up, when nobody looks at standard input: whoever started us has ended, so do we.
    die_with_parent()
    # execnet adds what it would tell an interpreter: -u -c CODE.
    words = sys.argv[1 : sys.argv.index("-u")] if "-u" in sys.argv else sys.argv[1:]
    parser = argparse.ArgumentParser()
    parser.add_argument("--kernel", required=True, type=unquote)
    parser.add_argument("--root", required=True, type=lambda value: Path(unquote(value)))
    parser.add_argument("--real-time", action="store_true")
    parser.add_argument("--user", type=int, default=0)
    parser.add_argument("arguments", nargs="*", type=unquote)
    asked = parser.parse_args(words)
    try:
        mode = Mode(simulated=not asked.real_time)
        project = warm.Project(asked.root, tuple(asked.arguments))
        with warm.start(find(asked.kernel), mode, project, say=warm.Say()) as machine:
            variables = {"TCP_HARNESS_OWN_KERNEL": "1"}
            if mode.simulated:
                variables["TCP_HARNESS_SIMULATED_TIME"] = "1"
            warm.become_interpreter(machine, project, variables=variables, user=asked.user)
            relay(machine)
    except HarnessError as error:
        print(f"harness: {error}", file=sys.stderr)
        sys.exit(2)


def find(kernel: str) -> Stored:
    """A kernel by the release that it has in the cache, or as the user named it."""
    for one in Store(places.kernels()).all():
        if one.release == kernel:
            return one
    return named(kernel)


def relay(machine: Machine) -> None:
    """Pass bytes both ways until one side ends; MachineDied if the machine did, on its own."""
    port = machine.port.fileno()
    os.set_blocking(0, False)
    while True:
        readable, _, _ = select.select([0, port], [], [], 1.0)
        if port in readable:
            data = os.read(port, 1 << 16)
            if not data:
                raise machine.died("it ended")
            _write_all(1, data)
        if 0 in readable:
            data = os.read(0, 1 << 16)
            if not data:
                return
            _write_all(port, data)
        if not readable and machine.process.poll() is not None:
            raise machine.died("QEMU ended")


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


if __name__ == "__main__":
    main()
