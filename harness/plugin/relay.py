"""A way for workers elsewhere to a port that the process at the terminal has at 127.0.0.1.

pytest-rerunfailures keeps behind such a port what it knows of all workers, and each of its workers connects to it. In a
virtual machine, and on another host, 127.0.0.1 is somebody else: there a port of our own takes the connection, and what
is said passes through a channel of execnet's.

In simulated time a machine that idles until it is answered would find that minutes have passed: there whoever waits
keeps the processor busy. What needs no answer is answered with nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import queue
import socket
import struct
import termios
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from harness.kernels.targets import Running
from harness.plugin.kernels import is_elsewhere, name_of
from harness.simulated import is_simulated

if TYPE_CHECKING:
    from collections.abc import Callable

    from xdist.workermanage import WorkerController

    # A connection by its number, and what was said on it; None: it is over.
    Said = tuple[int, bytes | None]

# What the worker is given: the port, by the name that pytest-rerunfailures gives it, and our channel.
PORT, CHANNEL = "sock_port", "harness_relay"
HERE = "127.0.0.1"
# What pytest-rerunfailures does not answer, and what it does: how often a test that nobody has has failed.
SET, QUESTION = b"set|", b"get|harness|f|\n"
# How long an answer may take; how often is looked whether anybody is there to give one, in seconds.
ENOUGH, MOMENT = 60.0, 0.1

CONNECTIONS = pytest.StashKey["dict[WorkerController, dict[int, Connection]]"]()


def tell_worker(node: WorkerController) -> None:
    """Give a worker elsewhere a channel to whatever port it is told of."""
    if name_of(node) in (None, Running.NAME):
        return
    channel = node.gateway.newchannel()
    connections: dict[int, Connection] = {}

    def hear(said: Said) -> None:
        """In execnet's thread, which has other things to do: each connection has a thread of its own."""
        number, data = said
        if number not in connections:
            connections[number] = Connection(node.workerinput[PORT], partial(_answer, channel, number))
        connections[number].say(data)

    channel.setcallback(hear)
    node.workerinput[CHANNEL] = channel
    node.config.stash.setdefault(CONNECTIONS, {})[node] = connections


def settle(node: WorkerController) -> None:
    """Wait until what a worker that is over has said is known: whether its test is run again depends on it."""
    for connection in [*node.config.stash.get(CONNECTIONS, {}).get(node, {}).values()]:
        connection.settle()


def _answer(channel: Any, number: int, data: bytes | None) -> None:
    with contextlib.suppress(OSError):  # the worker is gone
        channel.send((number, data))


class Connection:
    """What a worker says on a connection is said to the port, one after the other, and what it answers is passed back.

    pytest-rerunfailures says nothing to `set`, and may not have noted it when it has taken it: so it is asked
    something.
    """

    def __init__(self, port: int, answer: Callable[[bytes | None], None]) -> None:
        self._port = port
        self._answer = answer
        self._said: queue.Queue[bytes | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def say(self, data: bytes | None) -> None:
        """Pass this on; None: the worker has closed its end."""
        self._said.put(data)

    def settle(self) -> None:
        """Wait until all has been passed on, and noted there."""
        with self._said.all_tasks_done:
            while self._said.unfinished_tasks and self._thread.is_alive():
                self._said.all_tasks_done.wait(MOMENT)

    def _run(self) -> None:
        with contextlib.suppress(OSError), socket.create_connection((HERE, self._port)) as there:
            there.settimeout(ENOUGH)
            while data := self._said.get():
                has_no_answer = data.splitlines()[-1].startswith(SET)
                there.sendall(data + QUESTION if has_no_answer else data)
                answered = there.recv(1 << 16)
                if not answered:
                    break
                self._answer(b"" if has_no_answer else answered)
                self._said.task_done()
        self._answer(None)


def begin(config: pytest.Config) -> None:
    """In a worker elsewhere: take connections in place of the port that it was told of."""
    told: dict[str, Any] = getattr(config, "workerinput", {})
    if is_elsewhere(config) and PORT in told and CHANNEL in told:
        listener = socket.create_server((HERE, 0))
        told[PORT] = listener.getsockname()[1]
        config.pluginmanager.register(Relay(told[CHANNEL], listener), "harness-relay")


class Relay:
    """Takes connections, and passes on what is said on them."""

    def __init__(self, channel: Any, listener: socket.socket) -> None:
        self._channel = channel
        self._listener = listener
        self._connections: list[socket.socket] = []
        self._answered: list[threading.Event] = []
        channel.setcallback(self._hear)
        threading.Thread(target=self._accept, daemon=True).start()

    def pytest_runtest_logstart(self) -> None:
        """Have all passed on before a test begins: it may be the end of this process."""
        while any(_has_unread(connection) for connection in self._connections):
            time.sleep(0)

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            self._connections.append(connection)
            self._answered.append(threading.Event())
            threading.Thread(target=self._follow, args=(len(self._connections) - 1,), daemon=True).start()

    def _follow(self, number: int) -> None:
        """Pass on what is said on a connection. It is taken from the connection when that is done."""
        connection, answered = self._connections[number], self._answered[number]
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(1 << 16, socket.MSG_PEEK):
                answered.clear()
                self._channel.send((number, data))
                connection.recv(len(data))
                while is_simulated() and not answered.is_set():
                    time.sleep(0)
            self._channel.send((number, None))

    def _hear(self, said: Said) -> None:
        """In execnet's thread."""
        number, data = said
        connection = self._connections[number]
        with contextlib.suppress(OSError):
            if data is None:
                connection.shutdown(socket.SHUT_RDWR)
            else:
                connection.sendall(data)
        self._answered[number].set()


def _has_unread(connection: socket.socket) -> bool:
    """Whether something has come on a connection that nobody has taken yet; not so for one that is closed."""
    if connection.fileno() < 0:
        return False
    with contextlib.suppress(OSError):
        (unread,) = struct.unpack("i", fcntl.ioctl(connection, termios.FIONREAD, bytes(4)))
        return bool(unread)
    return False
