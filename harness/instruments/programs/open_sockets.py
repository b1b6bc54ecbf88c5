"""An ordinary user, or root, who opens sockets until that fails or enough are open.

    python -I -S open_sockets.py USER SOCKETS

It says in one line of JSON how many it has opened, and the error. Nothing but the standard library: it runs without the
harness.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys


def main(user: int, wanted: int) -> None:
    """Open them, and say how many."""
    if user:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    opened: list[socket.socket] = []
    name = None
    try:
        while len(opened) < wanted:
            opened.append(socket.socket())
    except OSError as error:
        name = errno.errorcode[error.errno or 0]
    print(json.dumps({"opened": len(opened), "error": name}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
