"""A program that starts threads under a limit until that fails or enough have been started.

    python -I -S start_threads.py USER THREADS LIMIT NUMBER

LIMIT is "nofile" (ulimit -n) or "nproc" (ulimit -u), NUMBER what it is set to. It says in one line of JSON how many
threads it has started, and how many sockets it could open beside them. Nothing but the standard library: it runs
without the harness.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
import threading

LIMITS = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
MOST_SOCKETS = 500


def start(wanted: int) -> int:
    """Start threads that wait; how many could be started."""
    ended, started = threading.Event(), 0
    try:
        for _ in range(wanted):
            threading.Thread(target=ended.wait, daemon=True).start()
            started += 1
    except RuntimeError:  # "can't start new thread"
        pass
    return started


def open_sockets() -> int:
    """Open sockets until that fails; how many."""
    opened: list[socket.socket] = []
    try:
        while len(opened) < MOST_SOCKETS:
            opened.append(socket.socket())
    except OSError:
        pass
    return len(opened)


def main(user: int, wanted: int, limit: str, number: int) -> None:
    """Become the user, take the limit, and try."""
    if user:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    resource.setrlimit(LIMITS[limit], (number, number))
    threads = start(wanted)
    print(json.dumps({"threads": threads, "sockets": open_sockets()}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
