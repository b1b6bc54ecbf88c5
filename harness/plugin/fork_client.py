"""What execnet starts in place of Python for a worker: it hands its ends to the fork server, and lasts as long as it.

    python -I -S fork_client.py NAME -u -c LINE

It is a program of its own, which imports little, as each worker has one. Where no server answers, it becomes the
Python that execnet wanted.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys

TAKEN = b"t"
# struct ucred of include/linux/socket.h: process, user and group; of who listens, at the moment when he began to.
CREDENTIALS = struct.Struct("iII")
# The status of a worker whose server was lost, so that nobody knows how it ended.
LOST = 1


def is_mine(server: socket.socket) -> bool:
    """Whether who listens is the same user."""
    credentials = server.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    return bool(CREDENTIALS.unpack(credentials)[1] == os.geteuid())


def environment() -> dict[str, str]:
    """The environment, each byte a character: the server may read it with another encoding."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in os.environb.items()}


def main() -> int:
    """The status with which the worker has ended."""
    name, *words = sys.argv[1:]
    # The terminal interrupts the worker too, which ends as it does without us.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(f"\0{name}")
            # The name is free once the server has ended, and anybody may take it.
            if is_mine(server):
                socket.send_fds(server, [json.dumps(environment()).encode() + b"\n"], [0, 1, 2])
                taken = server.recv(1)
            else:
                taken = b""
        except OSError:
            taken = b""
        if taken != TAKEN:
            signal.signal(signal.SIGINT, before)
            os.execv(sys.executable, [sys.executable, *words])
        # The worker's ends are to be closed when it has ended, and not when we have.
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        status = server.recv(1)
    return status[0] if status else LOST


if __name__ == "__main__":
    sys.exit(main())
