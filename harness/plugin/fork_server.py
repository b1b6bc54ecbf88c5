"""A process that has imported what pytest's workers import, and becomes each of them by fork(2).

    python -P -u fork_server.py ASKED LISTENER

It is a program of its own, run by its path: it must not import `harness` before pytest has said how that is done, with
assertions rewritten. ASKED and LISTENER are descriptors of sockets. What to import comes over the first; when that is
closed, the server ends, and so do those workers that have not yet. fork_client.py connects to the second.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import gc
import io
import json
import os
import re
import selectors
import signal
import socket
import struct
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

TAKEN = b"t"
# struct ucred of include/linux/socket.h: the process, user and group at the other end.
CREDENTIALS = struct.Struct("iII")
# Descriptors 0, 1 and 2.
ENDS = (0, 1, 2)
KILLED = 128
# How long a client may take to say what it wants, in seconds.
SLOW = 20.0


def prepare(asked: dict[str, list[str]]) -> None:
    """Import pytest with the plugins and conftest files that a worker has, and what those and the tests need.

    The files of tests are left to the workers: there their warnings are heard, and what is wrong with them is said.
    """
    sys.path = asked["path"]
    from _pytest.config import _prepareconfig

    # As pytest-xdist's workers do. It is not configured: plugins begin their work there.
    config = _prepareconfig(asked["arguments"], None)
    try:
        from harness.plugin import ahead

        ahead.prepare(config)
    finally:
        config._ensure_unconfigure()  # noqa: SLF001


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Say nothing meanwhile: the workers will."""
    kept = [os.dup(1), os.dup(2)]
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        for end, descriptor in enumerate(kept, start=1):
            os.dup2(descriptor, end)
            os.close(descriptor)


@dataclass
class Worker:
    """A process that this process has become, and the client that waits for its end."""

    pid: int
    client: socket.socket
    ended: int

    def kill(self) -> None:
        """End it; it is our child and not waited for, so that its number is its own."""
        os.kill(self.pid, signal.SIGKILL)


class Server:
    """Becomes a worker for each client that asks, until the process at the terminal is gone."""

    def __init__(self, asked: socket.socket, listener: socket.socket, began_with: Began) -> None:
        self._asked, self._listener, self._began_with = asked, listener, began_with
        self._workers: list[Worker] = []
        self._waiting = selectors.DefaultSelector()
        self._waiting.register(asked, selectors.EVENT_READ)
        self._waiting.register(listener, selectors.EVENT_READ)

    def serve(self) -> bool:
        """Whether this is a worker now; if not, all are over."""
        while True:
            for key, _ in self._waiting.select():
                if key.fileobj is self._asked:
                    for worker in self._workers:
                        worker.kill()
                    for worker in self._workers:
                        os.waitpid(worker.pid, 0)
                    return False
                if key.fileobj is self._listener:
                    if self._begin():
                        return True
                elif key.data in self._workers:
                    self._end(key.data, key.fileobj)

    def _begin(self) -> bool:
        """Take a client; whether this is its worker now."""
        client, _ = self._listener.accept()
        with contextlib.suppress(OSError, ValueError):
            _, user, _ = CREDENTIALS.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
            if user == os.geteuid():
                return self._fork(client)
        client.close()
        return False

    def _fork(self, client: socket.socket) -> bool:
        # One that was stopped in the middle must not stop all.
        client.settimeout(SLOW)
        said, ends, _, _ = socket.recv_fds(client, 1 << 16, len(ENDS))
        try:
            while not said.endswith(b"\n"):
                more = client.recv(1 << 16)
                if not more:
                    raise ValueError(said)
                said += more
            if len(ends) != len(ENDS):
                raise ValueError(ends)
            environment = json.loads(said)
            pid = os.fork()
            if pid == 0:
                try:
                    self._become(client, ends, environment)
                except BaseException:
                    os._exit(1)  # there must not be two servers
                return True
            try:
                ended = os.pidfd_open(pid)
            except OSError:
                # Nor two workers at the same ends: the client will be Python.
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise
        except BaseException:
            for end in ends:
                os.close(end)
            raise
        for end in ends:
            os.close(end)
        worker = Worker(pid, client, ended)
        self._workers.append(worker)
        self._waiting.register(worker.ended, selectors.EVENT_READ, worker)
        self._waiting.register(client, selectors.EVENT_READ, worker)
        with contextlib.suppress(OSError):
            client.sendall(TAKEN)
        return False

    def _become(self, client: socket.socket, ends: list[int], environment: dict[str, str]) -> None:
        """In the new process: be what execnet would have started; what modules have set since the beginning stays."""
        self._waiting.close()
        for worker in self._workers:
            worker.client.close()
            os.close(worker.ended)
        for each in (self._asked, self._listener, client):
            each.close()
        for end, descriptor in zip(ENDS, ends, strict=True):
            os.dup2(descriptor, end)
            os.close(descriptor)
        signal.signal(signal.SIGINT, self._began_with.interrupt)
        now = {name.encode("latin-1"): value.encode("latin-1") for name, value in environment.items()}
        before = self._began_with.environment
        for name in before.keys() - now.keys():
            os.environb.pop(name, None)
        os.environb.update(dict(now.items() - before.items()))
        sys.argv = ["-c"]

    def _end(self, worker: Worker, what: Any) -> None:
        """A worker has ended, or its client has: it is to be killed then."""
        if what is worker.client:
            worker.kill()
        _, status = os.waitpid(worker.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(OSError):
            worker.client.sendall(bytes([code if code >= 0 else KILLED - code]))
        self._waiting.unregister(worker.client)
        self._waiting.unregister(worker.ended)
        worker.client.close()
        os.close(worker.ended)
        self._workers.remove(worker)


def work() -> None:
    """Be a worker of execnet's: what it says first is the source of what serves it, which is here already."""
    from execnet.gateway_base import get_execmodel, init_popen_io, serve

    said = b""
    while not said.endswith(b"\n"):
        more = os.read(0, 1 << 16)
        if not more:
            return
        said += more
    # Its last lines say which model of threads, and which name.
    wanted = ast.literal_eval(said.decode())[-300:]
    model = re.search(r"get_execmodel\('(\w+)'\)", wanted)
    name = re.search(r"serve\(io, id='([^']*)'\)", wanted)
    channel = init_popen_io(get_execmodel(model[1] if model else "main_thread_only"))
    channel.write(b"1")
    serve(channel, id=name[1] if name else "worker")  # type: ignore[arg-type]
    # Threads are waited for, what was to be done at the end is done, and files are flushed, as by Py_FinalizeEx(). But
    # objects that are left are not deleted one by one (no __del__): for that each worker would copy what it has shared
    # with the others so far, all in the same moment, a tenth of a second of a processor each.
    with contextlib.suppress(KeyboardInterrupt):
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001
    atexit._run_exitfuncs()  # noqa: SLF001
    # What is frozen since before the fork is not among these. isinstance() would ask proxies for their __class__.
    for each in gc.get_objects():
        if issubclass(type(each), (io.TextIOWrapper, io.BufferedWriter)):
            with contextlib.suppress(OSError, ValueError):
                each.flush()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(0)


def threads() -> int:
    """How many threads this process has, those of libraries too; only the one that forks would be in a worker."""
    return len(list(Path("/proc/self/task").iterdir()))


@dataclass(frozen=True)
class Began:
    """What the process began with, and a worker has as well: variables, and what an interrupt does."""

    environment: dict[bytes, bytes]
    interrupt: Any


def main() -> None:
    """Import, and serve; where that goes wrong, end: then workers are started, and say what is wrong."""
    here, began_with = os.getcwd(), Began(dict(os.environb), signal.getsignal(signal.SIGINT))  # noqa: PTH109
    # Until there are workers an interrupt ends it without a word.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asked, listener = (socket.socket(fileno=int(word)) for word in sys.argv[1:])
    with asked.makefile() as said:
        line = said.readline()
    with silence():
        try:
            prepare(json.loads(line))
        except BaseException:
            return
    os.chdir(here)
    if threads() > 1:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What is here now stays: neither looked through nor copied by the workers' collectors of garbage.
    gc.collect()
    gc.freeze()
    if Server(asked, listener, began_with).serve():
        work()


if __name__ == "__main__":
    main()
