"""A server that accepts until accept() fails, waits for SIGUSR1, and goes on until it has as many as it was told.

    python -I -S accept_all.py FAMILY ADDRESS PORT CONNECTIONS

It says in a line of JSON each what has happened: that it listens; how many it has accepted, and if accept() has failed
with which error and whether poll() finds the listener readable then; and after the signal, what each client had sent.
Nothing but the standard library: it runs without the harness.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import sys

# accept() looks for a descriptor before it looks at the queue: those that wait may still be on their way. Milliseconds.
PATIENCES = (30_000, 0, 0)


def say(**line: object) -> None:
    """One line to whoever started us."""
    print(json.dumps(line), flush=True)


def accept_up_to(listener: socket.socket, wanted: int, accepted: list[socket.socket]) -> str | None:
    """Accept until there are so many; the name of the error, if accept() fails before."""
    try:
        while len(accepted) < wanted:
            accepted.append(listener.accept()[0])
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return None


def read(connection: socket.socket) -> str:
    """What a client has sent up to now."""
    try:
        return connection.recv(100, socket.MSG_DONTWAIT).decode()
    except BlockingIOError:
        return ""


def main(family: int, address: str, port: int, wanted: int) -> None:
    """Serve, and keep all connections until a signal ends the process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind((address, port))
    listener.listen(128)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    before = len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 - pathlib would have to be imported
    say(listening=True)
    accepted: list[socket.socket] = []
    error = accept_up_to(listener, wanted, accepted)
    readable = [bool(poll.poll(patience)) for patience in PATIENCES] if error else []
    say(accepted=len(accepted), before=before, error=error, readable=readable)
    if error:
        signal.sigwait([signal.SIGUSR1])
        error = accept_up_to(listener, wanted, accepted)
        say(accepted=len(accepted), before=before, error=error, read=[read(connection) for connection in accepted])
    signal.pause()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
