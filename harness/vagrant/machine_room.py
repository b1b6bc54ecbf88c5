"""Where the machines run: namespaces of their own for processes, mounts and network, with a libvirt of their own.

When the first process of it ends, however that happens, the kernel ends all the others (pid_namespaces(7)), and with
them go libvirt's daemon, the machines, bridge, DHCP server and packet filter. Nothing of the machine's own libvirt,
network or services is used or changed, whether it has systemd or not.

Run as a module this is that first process: it prepares the mounts, starts libvirtd, says so, and waits for ever.
Whoever looks for a room that was left running connects to its socket: the kernel says whose that is (SO_PEERCRED,
unix(7)), and no number out of a file is ever taken for that of a process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import NotReady, ProgramFailed, Unsupported
from harness.orphans import Process, die_with_parent
from harness.vagrant import places
from harness.vagrant.requirements import SEARCH_PATH
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# What libvirt writes to, and where that is instead.
LIBVIRT = {"etc": "/etc/libvirt", "lib": "/var/lib/libvirt", "cache": "/var/cache/libvirt", "log": "/var/log/libvirt"}
# How long libvirt's daemon may take: it starts every QEMU there is, to ask what it can do. In seconds.
ANSWER = 60.0
# No cgroups and no security modules: there is nothing here but our own machines. stdio_handler: without virtlogd.
QEMU_CONF = 'cgroup_controllers = []\nsecurity_driver = "none"\nstdio_handler = "file"\nnamespaces = []\n'
UP, SOCKET = "up", "room"


class MachineRoom:
    """The namespaces, by their first process as this machine sees it."""

    def __init__(self, first: Process, process: subprocess.Popen[bytes] | None = None) -> None:
        self.init = first.pid
        self._first = first
        self._process = process  # the first one's parent, if that is our child

    def alive(self) -> bool:
        """Whether it is still there."""
        return self._first.alive()

    def command(self, *words: str, directory: Path | None = None) -> list[str]:
        """The command line that runs another one inside, in a directory."""
        inside = ["env", f"--chdir={directory or Path.cwd()}", *_environment(), *words]
        return [
            "nsenter",
            f"--target={self.init}",
            "--mount",
            "--net",
            "--pid",
            "--",
            "setpriv",
            "--pdeathsig=KILL",
            *inside,
        ]

    def run(self, *words: str, directory: Path | None = None) -> str:
        """What a program printed inside; ProgramFailed, with what it said, if it fails."""
        ran = subprocess.run(
            self.command(*words, directory=directory), check=False, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", preexec_fn=die_with_parent,
        )  # fmt: skip
        if ran.returncode:
            said = f"{ran.stdout}{ran.stderr}".strip()
            raise ProgramFailed(f"{' '.join(words)}: ended with status {ran.returncode}\n{said}")
        return ran.stdout

    def end(self) -> None:
        """End all that is inside; once is enough."""
        self._first.signal(signal.SIGKILL)
        until(lambda: not self.alive(), deadline=30, what="the end of the machines")
        if self._process is not None:
            self._process.wait()
        shutil.rmtree(places.running(), ignore_errors=True)


def begin(*, lock: int | None = None) -> MachineRoom:
    """Make the room. It ends with this process; with `lock`, whose descriptor it keeps, it stays until end()."""
    running = places.running()
    shutil.rmtree(running, ignore_errors=True)
    for name in (*LIBVIRT, "vagrant"):
        (running / name).mkdir(parents=True)
    (running / "etc" / "qemu.conf").write_text(QEMU_CONF)
    words = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child=KILL", "--propagation=private"]
    words += ["--mount-proc", sys.executable, "-m", __name__, str(running)]
    log = running / "libvirtd.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
            pass_fds=[] if lock is None else [lock],
            preexec_fn=None if lock is not None else die_with_parent,  # noqa: PLW1509 - one call of libc's
        )  # fmt: skip

    def up() -> bool:
        if process.poll() is not None:
            raise Unsupported(f"machines cannot run here: {_last(log)}")
        return (running / UP).exists()

    try:
        until(up, deadline=ANSWER, what="libvirt's daemon")
    except NotReady:
        process.kill()
        raise Unsupported(f"machines cannot run here: libvirt's daemon does not answer: {_last(log)}") from None
    except BaseException:
        process.kill()
        raise
    first = _first(running)
    if first is None:
        process.kill()
        raise Unsupported(f"machines cannot run here: their first process has ended: {_last(log)}")
    return MachineRoom(first, process)


def current() -> MachineRoom | None:
    """The room that somebody left running on purpose."""
    first = _first(places.running())
    return None if first is None else MachineRoom(first)


def _first(running: Path) -> Process | None:
    """The first process of the room, which listens at its socket; None if nobody does.

    The kernel says whose the socket is. It is asked twice: if it still is, now that we hold the process, the process
    has not ended between the first answer and our taking hold of it, when another could have had its number.
    """
    number = _listener(running)
    if number is None:
        return None
    try:
        process = Process(number)
    except ProcessLookupError:
        return None
    return process if _listener(running) == number else None


def _listener(running: Path) -> int | None:
    """The process that listens at a room's socket, as the kernel has it; None if none does, or none that we see."""
    with _socket_of(running) as (listening, address):
        try:
            listening.connect(address)
            number, user, _ = struct.unpack("3i", listening.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        except OSError:
            return None
    return number if number > 1 and user in (0, os.geteuid()) else None


@contextlib.contextmanager
def _socket_of(running: Path) -> Iterator[tuple[socket.socket, str]]:
    """A socket, and the address of the room's: by way of a descriptor, because an address has 107 bytes."""
    with contextlib.ExitStack() as stack:
        unix = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            directory = os.open(running, os.O_PATH | os.O_DIRECTORY)
        except OSError:
            yield unix, str(running / SOCKET)
            return
        stack.callback(os.close, directory)
        yield unix, f"/proc/self/fd/{directory}/{SOCKET}"


def _environment() -> list[str]:
    """Vagrant's settings: what it keeps is ours, and it asks no server whether there is a newer one."""
    driver = (places.box() / "driver").read_text().strip() if (places.box() / "driver").exists() else "qemu"
    return [
        f"PATH={SEARCH_PATH}",
        "HOME=/root",
        "LC_ALL=C.UTF-8",
        "VAGRANT_CHECKPOINT_DISABLE=1",
        "VAGRANT_NO_COLOR=1",
        "VAGRANT_DEFAULT_PROVIDER=libvirt",
        f"VAGRANT_HOME={places.home()}",
        f"VAGRANT_DOTFILE_PATH={places.running() / 'vagrant'}",
        f"{places.DIRECTORY}={places.directory()}",
        f"TCP_HARNESS_DRIVER={driver}",
    ]


def _last(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return " | ".join(lines[-3:]) or "nothing was said"


# ------------------------------------------------------------------------------------------------ inside


def _prepare(running: Path) -> None:
    """Mounts of our own: nothing is shared with the machine's libvirt, and /sys shows our network."""
    todo: list[Sequence[str]] = [("mount", "-t", "sysfs", "sysfs", "/sys"), ("mount", "-t", "tmpfs", "tmpfs", "/run")]
    for name, place in LIBVIRT.items():
        Path(place).mkdir(parents=True, exist_ok=True)
        todo.append(("mount", "--bind", str(running / name), place))
    todo.append(("ip", "link", "set", "lo", "up"))
    for words in todo:
        subprocess.run(words, check=True)


def _main(running: Path) -> None:
    os.environ["PATH"] = SEARCH_PATH
    _listen(running)
    _prepare(running)
    # Signals that nobody handles do not reach the first process of a namespace; SIGKILL from outside does.
    daemon = subprocess.Popen(["libvirtd"], stdin=subprocess.DEVNULL)
    if os.fork() == 0:
        until(_answers, deadline=ANSWER, what="libvirt's daemon")
        (running / UP).touch()
        os._exit(0)
    while True:  # what loses its parent, QEMU for one, becomes our child, and libvirt waits until it is gone
        ended, status = os.wait()
        if ended == daemon.pid:
            sys.exit(f"libvirtd ended with status {os.waitstatus_to_exitcode(status)}")


def _listen(running: Path) -> None:
    """Be found: whoever connects learns who we are."""
    with _socket_of(running) as (_, address):
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(address)
    (running / SOCKET).chmod(0o600)
    listening.listen()

    def answer() -> None:
        while True:
            connection, _ = listening.accept()
            connection.close()

    threading.Thread(target=answer, daemon=True).start()


def _answers() -> bool:
    asked = subprocess.run(["virsh", "--connect", "qemu:///system", "version"], check=False, capture_output=True)
    return asked.returncode == 0


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
