"""The real nginx, in a host, with a configuration in the lab's own directory."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import NotReady
from harness.observe.queues import accept_queue
from harness.observe.sockets import sockets, states_at
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Host, Program, Ran

CONFIGURATION = """
daemon off;
user root;
worker_processes {workers};
worker_rlimit_nofile 100000;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections 50000; multi_accept on; }}
http {{
    map $connection_requests $first {{ 1 1; default 0; }}
    log_format client $remote_port;
    access_log {directory}/clients.log client if=$first;
    keepalive_timeout {keepalive};
    keepalive_requests {keepalive_requests};
    {temporary}
    {http}
    server {{
        listen {listen};
        location / {{ {location} }}
    }}
}}
"""
# The states of a process that has ended (proc(5)).
ENDED = "ZX"
# What a configuration needs beside a server block that is only to be read.
AROUND = """
user root;
pid {directory}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    {temporary}
    {server_block}
}}
"""
# Where nginx would write what it cannot keep in memory, instead of the machine's own nginx's directories.
TEMPORARY = """client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;"""


def check_configuration(host: Host, server_block: str) -> Ran:
    """What `nginx -t` says of a configuration with this server block: its status, and why on its standard error."""
    directory = host.lab.directory
    file = directory / "tested.conf"
    temporary = TEMPORARY.format(directory=directory)
    file.write_text(AROUND.format(directory=directory, temporary=temporary, server_block=server_block))
    return host.run("nginx", "-t", "-p", directory, "-c", file, check=False)


def inode_of(descriptor: Path) -> int:
    """The inode of a socket by a descriptor in /proc/PID/fd; 0 of what is no socket."""
    socket = re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink()))
    return int(socket[1]) if socket else 0


class Nginx:
    """A running nginx. `listen` is the argument of its directive without the address ("8088 backlog=5000").

    It listens on the host's address in the lab's family and answers each request with "ok", unless `location` says
    otherwise; `http` is more for the block of that name (an `upstream`). It keeps an idle connection for `keepalive`
    seconds, 0 to close after each answer, and closes after `keepalive_requests` answers. Stopped with the lab. Raises
    MissingProgram where nginx is not installed.
    """

    def __init__(
        self,
        host: Host,
        listen: str = "80",
        *,
        location: str = 'return 200 "ok";',
        keepalive: int = 65,
        keepalive_requests: int = 1000000,
        workers: int = 1,
        http: str = "",
    ) -> None:
        self.host = host
        self.port = int(listen.split(maxsplit=1)[0])
        self.keepalive = keepalive
        self._settings = {
            "location": location,
            "keepalive": keepalive,
            "keepalive_requests": keepalive_requests,
            "workers": workers,
            "http": http,
        }
        self.directory: Path = host.lab.directory / f"{host.name}-nginx-{self.port}"
        self.directory.mkdir(exist_ok=True)
        self.configure(listen)
        self.program = self._start()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self._literal()}:{self.port}/"

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self.host.ip, self.port

    @property
    def waiting(self) -> int:
        """How many connections wait for its workers to accept them."""
        return accept_queue(self.host, self.port).waiting

    @property
    def limit(self) -> int:
        """What listen() made of its backlog, as the kernel has it now."""
        return accept_queue(self.host, self.port).limit

    def configure(self, listen: str) -> None:
        """Write a new configuration; reload() or restart() makes it count."""
        self._file.write_text(
            CONFIGURATION.format(
                directory=self.directory,
                temporary=TEMPORARY.format(directory=self.directory),
                listen=f"{self._literal()}:{listen}",
                **self._settings,
            )
        )

    def reload(self) -> None:
        """`nginx -s reload`; returns when the workers of before have gone."""
        old = self.workers()
        self.host.run("nginx", "-p", self.directory, "-c", self._file, "-s", "reload")
        until(
            lambda: (now := self.workers()) and not set(now) & set(old),
            deadline=20,
            what="nginx's new workers in place of the old",
        )

    def stop(self) -> None:
        """Stop it, and all that listens for it: its workers are not its parent's to wait for."""
        self.program.stop()
        until(lambda: "LISTEN" not in states_at(self.host, self.port), what=f"nobody at port {self.port}")

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.program = self._start()

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        return self.program.children()

    def clients(self) -> list[int]:
        """The ports of the connections that have had an answer since it started: nginx logs the first request of each.

        In the order in which they had it.
        """
        return [int(line) for line in self._log.read_text().splitlines() if line]

    def stall(self) -> None:
        """Stop the workers as a blocking call would: the kernel goes on queueing for them."""
        _stop(self.workers())

    def stall_one(self) -> int:
        """Stop one of the workers; its process id. It waits at its socket then, and takes nothing from it."""
        worker = self.workers()[0]
        until(lambda: self._sockets_of(worker), what="a worker of nginx that waits at its socket")
        _stop([worker])
        return worker

    def waiting_at(self, worker: int) -> int:
        """How many connections wait at the socket of one worker, where each has its own (`reuseport`)."""
        (inode,) = self._sockets_of(worker)
        return accept_queue(self.host, self.port, inode=inode).waiting

    def resume(self) -> None:
        """Let the workers run again."""
        for worker in self.workers():
            os.kill(worker, signal.SIGCONT)

    @property
    def _file(self) -> Path:
        return self.directory / "nginx.conf"

    def _literal(self) -> str:
        return f"[{self.host.ip}]" if ":" in self.host.ip else self.host.ip

    def _sockets_of(self, worker: int) -> set[int]:
        """The inodes of the listening sockets that a worker waits at: it has those of the others as well.

        They are among those that its epoll descriptor watches (fs/eventpoll.c, ep_show_fdinfo()).
        """
        listening = {row.inode for row in sockets(self.host, f"state listening sport = :{self.port}")}
        process = Path("/proc", str(worker))
        watched = set()
        for descriptor in process.glob("fdinfo/*"):
            # A worker that has just begun closes what it has of its parent.
            text = ""
            with suppress(FileNotFoundError):
                text = descriptor.read_text()
            for number in re.findall(r"^tfd: +(\d+)", text, re.MULTILINE):
                with suppress(FileNotFoundError):
                    watched.add(inode_of(process / "fd" / number))
        return listening & watched

    def _start(self) -> Program:
        program = self.host.start("nginx", "-p", self.directory, "-c", self._file)
        program.wait_ready(lambda: program.children() and self._answers(), 20)
        # nginx appends, so it goes on behind what is cut off here: the question whether it answers is no client.
        self._log.write_text("")
        return program

    @property
    def _log(self) -> Path:
        return self.directory / "clients.log"

    def _answers(self) -> bool:
        """Ask and read to the end, so that nothing of the question is left in a queue."""
        with self.host.socket() as probe:
            probe.settimeout(2)
            try:
                probe.connect((self.host.ip, self.port))
                probe.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return b"".join(iter(lambda: probe.recv(4096), b"")).startswith(b"HTTP/1.")
            except OSError:
                return False


def _stop(workers: list[int]) -> None:
    """Stop processes, and wait until each has stopped.

    A process that has not been on a processor since the signal still waits in epoll_wait(2): with EPOLLEXCLUSIVE it is
    the only one to be woken for the next connection (fs/eventpoll.c, ep_poll_callback()), and serves it only when it
    goes on.

    NotReady where one has ended.
    """
    try:
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        until(lambda: all(_has_stopped(worker) for worker in workers), what="nginx's workers to have stopped")
    except (ProcessLookupError, FileNotFoundError):
        raise NotReady("a worker of nginx that was to be stopped has ended") from None


def _has_stopped(process: int) -> bool:
    """Whether a process is stopped by a signal (proc(5), stat, the third field); ProcessLookupError if it has ended."""
    state = Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()[0]
    if state in ENDED:
        raise ProcessLookupError(process)
    return state == "T"
