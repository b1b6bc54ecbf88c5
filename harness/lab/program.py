"""Real programs inside a host: run to their end, or in the background until they are ready."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from harness.errors import MissingProgram, NotReady, ProgramFailed
from harness.lab import isolation
from harness.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.lab.netns import Namespace

SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))
# Where the package's name is not the program's.
PACKAGES = {
    "nginx": "nginx-light",
    "netstat": "net-tools",
    **dict.fromkeys(("ip", "ss", "nstat", "tc", "bridge"), "iproute2"),
    **dict.fromkeys(("sysctl", "ps", "pgrep", "pkill", "free", "top", "vmstat"), "procps"),
    **dict.fromkeys(("dmesg", "nsenter", "unshare", "setpriv", "taskset"), "util-linux"),
    **dict.fromkeys(("ifconfig", "route", "arp"), "net-tools"),
    "nft": "nftables",
    "nc": "netcat-openbsd",
    "ping": "iputils-ping",
    "redis-cli": "redis-tools",
    "psql": "postgresql-client",
}
# Set in a virtual machine of ours (harness.kernels.gateway).
GUEST = "TCP_HARNESS_GUEST"


@dataclass(frozen=True)
class Ran:
    """A program that has ended: its command line, exit status and output as text."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


def find(program: str) -> str:
    """The path of a program; MissingProgram, with the Debian package, if there is none."""
    path = shutil.which(program, path=SEARCH_PATH)
    if path is None:
        raise MissingProgram(program, PACKAGES.get(program, program), GUEST in os.environ)
    return path


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": SEARCH_PATH, "LC_ALL": "C"}


class Program:
    """A program running in the background of a host; its output goes to a file that is kept until the lab closes."""

    def __init__(self, namespace: Namespace, argv: Sequence[str], output: Path) -> None:
        self.argv = tuple(str(word) for word in argv)
        self._output = output
        path = find(self.argv[0])
        with output.open("wb") as sink:
            self._process = spawn(namespace, [path, *self.argv[1:]], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)

    @property
    def pid(self) -> int:
        """Its process id, as this process sees it."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def output(self) -> str:
        """All that it has written so far, both streams in order."""
        return self._output.read_text(errors="replace")

    def wait(self, deadline: float = 30.0) -> Ran:
        """Wait for its end, `deadline` seconds at most (NotReady)."""
        try:
            status = self._process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise NotReady(f"{' '.join(self.argv)}: still running after {deadline:g} s\n{self.output()}") from None
        return Ran(self.argv, status, self.output(), "")

    def wait_ready(self, ready: Callable[[], object], deadline: float) -> None:
        """Wait until `ready()` is true; ProgramFailed if the program ends before that."""

        def ready_or_dead() -> object:
            if not self.alive():
                raise ProgramFailed(
                    f"{' '.join(self.argv)}: ended with status {self._process.returncode}\n{self.output()}"
                )
            return ready()

        until(ready_or_dead, deadline=deadline, what=f"{self.argv[0]} ready")

    def children(self) -> list[int]:
        """The process ids of its children, as this process sees them."""
        return isolation.children_of(self.pid)

    def signal(self, number: int) -> None:
        """Send a signal to the program alone."""
        self._process.send_signal(number)

    def interrupt(self, deadline: float = PATIENCE) -> Ran:
        """End a program as Ctrl-C does, within `deadline` seconds after it has a handler for SIGINT (NotReady).

        A SIGINT before the handler is there kills it, or is lost in a background job of a shell; after the handler has
        only set a flag, a program that is about to sleep sleeps on. So it comes when it is caught, and again. A shell
        may have a handler from its start, which ends it as long as no trap is set (dash, `sh -c`): wait for its word.
        """
        until(
            lambda: not self.alive() or self._catches(signal.SIGINT), what=f"{self.argv[0]} with a handler for SIGINT"
        )
        ended = time.monotonic() + deadline
        while self.alive() and time.monotonic() < ended:
            self.signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
        return self.wait(0.0)

    def _catches(self, number: int) -> bool:
        """Whether it has a handler for a signal (/proc/PID/status, SigCgt)."""
        with contextlib.suppress(FileNotFoundError):
            caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{self.pid}/status").read_text(), re.M)
            return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)
        return False

    def stop(self) -> None:
        """End it and all that it started in its session: politely, and after two seconds by force."""
        for number, patience in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def run(
    namespace: Namespace, argv: Sequence[str], *, stdin: str | None = None, timeout: float = 120.0, check: bool = True
) -> Ran:
    """Run a program to its end inside the namespace.

    `timeout` is in seconds (NotReady). With `check`, a status other than 0 raises ProgramFailed with the output.
    """
    words = [str(word) for word in argv]
    path = find(words[0])
    process = spawn(
        namespace,
        [path, *words[1:]],
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        out, err = process.communicate(None if stdin is None else stdin.encode(), timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise NotReady(f"{' '.join(words)}: still running after {timeout:g} s\n{out.decode()}{err.decode()}") from None
    ran = Ran(tuple(words), process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
    if check and ran.returncode != 0:
        raise ProgramFailed(f"{' '.join(words)}: ended with status {ran.returncode}\n{ran.stdout}{ran.stderr}")
    return ran


def _interrupts_are_ignored() -> bool:
    """Whether we are a shell's background job: what it starts ignores SIGINT, and so would what we start."""
    return signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def spawn(
    namespace: Namespace, argv: list[str], *, stdin: int, stdout: int | IO[bytes], stderr: int | IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a program in a network namespace, and in the PID namespace that dies with this process.

    In a thread of its own that ends at once: setns() for PID namespaces cannot be undone by an ordinary user, who has
    no rights over the namespace that the process came from, and a thread that is left with another PID namespace for
    its children cannot create threads (kernel/fork.c, copy_process()).
    """
    world = isolation.world()
    results: list[subprocess.Popen[bytes] | BaseException] = []

    def start() -> None:
        try:
            with namespace:
                isolation.setns(world.programs, isolation.CLONE_NEWPID)
                results.append(
                    subprocess.Popen(
                        argv,
                        stdin=stdin,
                        stdout=stdout,
                        stderr=stderr,
                        env=_environment(),
                        start_new_session=True,
                        preexec_fn=_heed_interrupts if _interrupts_are_ignored() else None,  # noqa: PLW1509 - no lock
                    )
                )
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=start, name=f"start {argv[0]}")
    thread.start()
    thread.join()
    started = results[-1]
    if isinstance(started, OSError) and started.errno == errno.ENOMEM and isolation.has_lost_its_programs():
        raise ProgramFailed(
            f"{argv[0]}: cannot be started: somebody has killed process {world.init.pid} or its child, which all "
            "programs of labs end with; start pytest anew"
        ) from None
    if isinstance(started, BaseException):
        raise started
    return started
