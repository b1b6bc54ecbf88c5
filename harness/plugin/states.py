"""The states of several kernels' machines are made side by side, before the first machine is started.

pytest-xdist starts its workers one after the other. Where no state was kept, each start is the boot of a kernel, and
the machines that are up wait for it: in simulated time a machine that waits keeps a processor busy.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from select import select
from typing import TYPE_CHECKING

from harness.kernels.gateway import ONLY_MAKE, is_gateway

if TYPE_CHECKING:
    from collections.abc import Sequence

    import execnet


def make(specs: Sequence[execnet.XSpec]) -> None:
    """Make what the machines of these workers are restored from, for as many kernels at once as there are processors.

    Nothing is done for one kernel: its own start makes it. EOFError where one cannot be made; the program that tried
    has said why (harness.plugin.trouble).
    """
    commands = [*dict.fromkeys(spec.python for spec in specs if spec.python and is_gateway(spec.python))]
    if len(commands) > 1:
        _run([[*shlex.split(command), ONLY_MAKE] for command in commands], most=len(os.sched_getaffinity(0)))


def _run(commands: Sequence[Sequence[str]], most: int) -> None:
    """Run these programs, at most so many at once; all end when one has failed, or we are interrupted."""
    left = list(commands)
    running: dict[int, subprocess.Popen[bytes]] = {}
    try:
        while left or running:
            while left and len(running) < most:
                program = subprocess.Popen(left.pop(0), stdin=subprocess.DEVNULL)
                running[os.pidfd_open(program.pid)] = program
            for ended in select([*running], [], [])[0]:
                os.close(ended)
                if running.pop(ended).wait():
                    raise EOFError
    finally:
        for descriptor, program in running.items():
            program.kill()
            program.wait()
            os.close(descriptor)
