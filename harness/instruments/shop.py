"""An application with a pool of threads that asks a database on another host, and customers who wait for its pages."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.instruments.patience import syn_waits_of
from harness.instruments.programs import command
from harness.observe import count
from harness.waiting import PATIENCE, until

if TYPE_CHECKING:
    from harness.lab import Host
    from harness.lab.program import Program

THREADS = 3
HTTP, DATABASE = 8080, 5432


@dataclass
class Shop:
    """The application on a host of its own, with the host's knobs and its own options, started at the beginning.

    wait_until_open() is when it can be visited: those that are opened together need not wait for each other.
    `gives_up` is after how many seconds the application itself ends a connect(), if it does, `page` what a customer
    gets when connect() has failed. `visits` are those of besiege().
    """

    name: str
    host: Host
    database: Host
    knobs: dict[str, int] = field(default_factory=dict)
    options: tuple[object, ...] = ()
    gives_up: float | None = None
    page: str = "503 ETIMEDOUT"
    visits: list[Visit] = field(default_factory=list)
    _program: Program = field(init=False)

    def __post_init__(self) -> None:
        for knob, value in self.knobs.items():
            self.host.sysctl[knob] = value
        arguments = (HTTP, self.database.ip, DATABASE, "--threads", THREADS, *self.options)
        self._program = self.host.start(*command("shop.py", *arguments))

    def wait_until_open(self) -> None:
        """Wait until it takes visits; ProgramFailed if it ends before that."""
        self._program.wait_ready(self._listens, deadline=60)

    @property
    def law(self) -> list[float]:
        """The waits of its connect() to a silent database, one after the other, in seconds."""
        return syn_waits_of(self.host) if self.gives_up is None else [self.gives_up]

    @property
    def connecting(self) -> int:
        """How many of its threads are in connect()."""
        return count(self.host, "state syn-sent")

    def besiege(self, customer: Host) -> None:
        """As many visits as it has threads, all at once."""
        self.visits = [Visit(customer, self) for _ in range(THREADS)]

    def all_threads_connect(self) -> None:
        """Wait until each of its threads is in connect()."""
        until(lambda: self.connecting == THREADS, deadline=PATIENCE, what=f"all threads of {self.name} in connect()")

    def _listens(self) -> int:
        return count(self.host, f"state listening sport = :{HTTP}")


class Visit(threading.Thread):
    """A customer who asks for a page, and waits for it however long it takes.

    `began` is a moment on the monotonic clock, `seconds` how long it took.
    """

    def __init__(self, customer: Host, shop: Shop, page: str = "/") -> None:
        super().__init__(daemon=True)
        self.seconds = 0.0
        self.began = time.monotonic()
        self._answer = ""
        self._socket = customer.socket()
        self._socket.connect((shop.host.ip, HTTP))
        self._socket.sendall(f"GET {page} HTTP/1.0\r\n\r\n".encode())
        customer.lab.on_close(self._leave)
        self.start()

    def run(self) -> None:
        """Wait for the answer, and take the time."""
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # the shop is closed with requests unread
            while b"\r\n\r\n" not in answer and (more := self._socket.recv(4096)):
                answer += more
        self.seconds = round(time.monotonic() - self.began, 2)
        self._answer = answer.decode()

    def served(self, deadline: float = 60) -> str:
        """The status and the page, as far as they came together: "200 SELECT 1"; "nothing" after `deadline` seconds."""
        self.join(deadline)
        answer = re.match(r"HTTP/1.0 (\d+) .*\r\n\r\n(.*)", self._answer, re.DOTALL)
        return f"{answer[1]} {answer[2]}".strip() if answer else "nothing"

    @property
    def waits(self) -> bool:
        """Whether there is no answer yet."""
        return self.is_alive()

    def _leave(self) -> None:
        """Wait no longer: a descriptor is not closed under a thread that is blocked in it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.join(30)
        self._socket.close()
