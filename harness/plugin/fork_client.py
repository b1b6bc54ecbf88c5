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
import sys

TAKEN = b"t"
# The status of a worker whose server was lost, so that nobody knows how it ended.
LOST = 1


def main() -> int:
    """The status with which the worker has ended."""
    name, *words = sys.argv[1:]
    # The terminal interrupts the worker too, which ends as it does without us.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(f"\0{name}")
            socket.send_fds(server, [json.dumps(dict(os.environ)).encode() + b"\n"], [0, 1, 2])
            taken = server.recv(1)
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
