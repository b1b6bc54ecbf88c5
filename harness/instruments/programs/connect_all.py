"""A client that connects until socket() fails or it has as many connections as it was told, and keeps them.

    python -I -S connect_all.py FAMILY ADDRESS PORT CONNECTIONS

It says in one line of JSON how many it has, how many descriptors it had open before, and the error.
Nothing but the standard library: it runs without the harness.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import sys


def main(family: int, address: str, port: int, wanted: int) -> None:
    """Connect, and keep all connections until a signal ends the process."""
    before, name = len(os.listdir("/proc/self/fd")) - 1, None  # noqa: PTH208 - pathlib would have to be imported
    connected: list[socket.socket] = []
    try:
        while len(connected) < wanted:
            connected.append(socket.socket(family, socket.SOCK_STREAM))
            connected[-1].connect((address, port))
    except OSError as error:
        name = errno.errorcode[error.errno or 0]
    print(json.dumps({"connected": len(connected), "before": before, "error": name}), flush=True)
    signal.pause()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
