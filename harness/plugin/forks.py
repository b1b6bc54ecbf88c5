"""Workers that are forks of a process which has imported what they import, where there are many of them.

A worker of pytest-xdist's takes 1.5 s of a processor for imports, before its first test and in tests that need more,
and has 100 MB of its own. execnet starts it as it always does; but what it starts is a program that hands its ends over
to a server (fork_client, fork_server), and the server has imported all that.

It is off unless a project asks for it: plugins and conftest files are imported once for all workers. One that asks, as
it is imported, in which worker that is, or makes a folder that is removed when the process ends, must not ask for it;
nor one whose objects do something in `__del__` when the process ends: what atexit is told is done, and no more.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.plugin.kernels import plan_of
from harness.plugin.options import setting

if TYPE_CHECKING:
    from collections.abc import Sequence

    import execnet

HERE = Path(__file__).parent
STARTED, FORKED = HOW = ("started", "forked")
# From so many workers on.
MANY = 8
# A worker of which one of these is said is not like the others.
APART = ("python", "via", "chdir", "nice", "env", "dont_write_bytecode")
# How long it may take to end, in seconds.
PATIENCE = 20.0


def begin(config: pytest.Config, specs: Sequence[execnet.XSpec]) -> None:
    """Start a server for workers of this machine, if that is wished and they are many, and let execnet ask it.

    UsageError if the setting `tcp_workers` is neither of HOW.
    """
    how = setting(config, "workers")
    if how not in HOW:
        raise pytest.UsageError(f"tcp_workers must be {' or '.join(HOW)}, not {how!r}")
    mine = [spec for spec in specs if spec.popen and not any(getattr(spec, word) for word in APART)]
    # What measures which lines of a program are run has to be there before they are.
    if how == STARTED or plan_of(config) is not None or len(mine) < MANY or config.pluginmanager.has_plugin("_cov"):
        return
    name = f"tcp-harness-{secrets.token_hex(16)}"
    ours, theirs = socket.socketpair()
    with theirs, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen(len(mine))
        descriptors = [theirs.fileno(), listener.fileno()]
        argv = [sys.executable, "-P", "-u", str(HERE / "fork_server.py"), *map(str, descriptors)]
        try:
            server = subprocess.Popen(argv, pass_fds=descriptors, stdin=subprocess.DEVNULL)
        except OSError:  # no memory, say: it is no condition
            ours.close()
            return
    config.add_cleanup(lambda: _end(ours, server))
    asked = {
        "path": [*filter(lambda place: isinstance(place, str), sys.path)],
        "arguments": [str(argument) for argument in config.invocation_params.args],
    }
    with contextlib.suppress(OSError):
        ours.sendall(json.dumps(asked).encode() + b"\n")
    client = shlex.join([sys.executable, "-I", "-S", str(HERE / "fork_client.py"), name])
    for spec in mine:
        spec.python = client


def _end(ours: socket.socket, server: subprocess.Popen[bytes]) -> None:
    """Have it end, with those of its workers that did not, and wait: what they took is counted as ours."""
    ours.close()
    try:
        server.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
