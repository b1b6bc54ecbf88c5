"""Bring the machines up, run the scenarios in each, bring the results back."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from harness.errors import HarnessError, ProgramFailed
from harness.orphans import die_with_parent
from harness.vagrant import places

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.vagrant.kernels import MachineKernel
    from harness.vagrant.machine_room import MachineRoom

# In a machine.
PROJECT = "/home/vagrant/tcp-harness"
# Below the clone.
RESULTS = Path("vagrant", "results")
# pytest processes in a machine: their waits run side by side.
WORKERS = {"kvm": 16, "qemu": 8}
# What QEMU takes for a machine, in bytes.
MEMORY = 3.5e9
# What pytest is to write there; all below out/ comes back.
OPTIONS = "--tcp-own-kernel --tcp-evidence out/evidence --junitxml out/junit.xml -v"
# What -v adds: a line as a test begins, and one as it ends.
_BEGINS = re.compile(r"scenarios/\S+\s*$")
_WENT_WELL = re.compile(r"\[gw\d+\] \[ *(\d+)%\] (PASSED|SKIPPED) ")
CONSOLE_SHOWN = 15
# Vagrant makes libvirt's pool, network and copy of the box when it first needs them, and no two at a time can.
_one_comes_up = threading.Lock()
# ssh's own exit status: the connection was lost.
LOST = 255
# make's, when pytest's was not 0.
NOT_EXPECTED = 2


@dataclass(frozen=True)
class Wish:
    """How the scenarios are to be run: pytest processes, more of its options, and who is told what happens."""

    workers: int | None
    more: str
    say: Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What came of a machine: make's exit status, or why there is none; seconds of coming up and of the scenarios."""

    kernel: str
    release: str
    status: int | None
    problem: str = ""
    up: float = 0.0
    ran: float = 0.0

    def __str__(self) -> str:
        """A line for the terminal."""
        if self.status is None:
            return f"{self.kernel} ({self.release}): {self.problem}"
        ended = {0: "all as expected", NOT_EXPECTED: "not all as expected"}.get(self.status, f"status {self.status}")
        return f"{self.kernel} ({self.release}): {ended}; up in {self.up:.0f} s, scenarios {self.ran:.0f} s"


class VagrantMachine:
    """One of the machines of vagrant/Vagrantfile, by its kernel's series; its directory is the Vagrantfile's."""

    def __init__(self, room: MachineRoom, kernel: str) -> None:
        self.kernel = kernel
        self.name = f"k{kernel}"
        self.room = room
        self.directory = Path.cwd() / "vagrant"
        self.ssh_config = places.running() / f"ssh-{self.name}"
        self._console = places.running() / "log" / "qemu" / f"{self.name}-console.log"

    def vagrant(self, *words: str) -> str:
        """What Vagrant said; ProgramFailed."""
        return self.room.run("vagrant", *words, self.name, directory=self.directory)

    def up(self) -> float:
        """Bring it up; how many seconds that took. ProgramFailed, with the end of its console."""
        try:
            with _one_comes_up:
                begun = time.monotonic()
                self.vagrant("up", "--provider=libvirt")
                took = time.monotonic() - begun
        except ProgramFailed as error:
            raise ProgramFailed(f"{error}\n{self.console()}") from None
        self.ssh_config.write_text(self.vagrant("ssh-config"))
        return took

    def reached_from_outside(self) -> str:
        """The configuration with which any ssh of root's reaches it."""
        way = f"{sys.executable} -m harness.vagrant.connect {self.room.init} %h %p"
        return self.ssh_config.read_text().rstrip() + f"\n  ProxyCommand {way}\n  ProxyUseFdpass yes\n"

    def ssh(self, command: str, output: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
        """A command of the shell, running in it."""
        alive = ["-o", "ServerAliveInterval=20", "-o", "ServerAliveCountMax=6"]
        return subprocess.Popen(
            self.room.command("ssh", "-F", str(self.ssh_config), *alive, self.name, command),
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, text=True, errors="replace",
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one call of libc's
        )  # fmt: skip

    def release(self) -> str:
        """The kernel's release, as it says itself."""
        return self.ssh("uname -r").communicate()[0].strip()

    def fetch(self, into: Path) -> None:
        """Bring what its runs wrote."""
        shell = f"ssh -F {self.ssh_config}"
        self.room.run(
            "rsync",
            "-a",
            "--no-owner",
            "--no-group",
            "--exclude=/tmp",
            "--rsync-path=sudo rsync",
            "-e",
            shell,
            f"{self.name}:{PROJECT}/out/",
            f"{into}/",
        )

    def keep_console(self, into: Path) -> None:
        """Keep what it has said on its console."""
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(self._console, into / "console.log")

    def console(self) -> str:
        """The last lines of its console."""
        try:
            text = self._console.read_text(errors="replace").replace("\r", "")
        except FileNotFoundError:
            return "  | (nothing on its console)"
        return "\n".join(f"  | {line}" for line in text.splitlines()[-CONSOLE_SHOWN:])

    def destroy(self) -> None:
        """Take it down."""
        self.vagrant("destroy", "--force")


class Progress:
    """What is shown of the lines that pytest prints: of the tests that went well every tenth part, and all else."""

    def __init__(self) -> None:
        self._tenths = 0

    def shown(self, line: str) -> str:
        """The line, another one in place of it, or nothing."""
        if _BEGINS.match(line):
            return ""
        if not (well := _WENT_WELL.match(line)):
            return line
        if (tenths := int(well[1]) // 10) == self._tenths:
            return ""
        self._tenths = tenths
        return f"{tenths}0 % of the scenarios\n"


def at_once(cores: int, memory: float) -> int:
    """How many machines run side by side: each has a core for itself, and its memory, in bytes."""
    return max(1, min(cores, int(memory / MEMORY)))


def _free_memory() -> float:
    available = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return float(available[1]) * 1024 if available else 0.0


def driver() -> str:
    """kvm or qemu, as was found out when the box was built."""
    return (places.box() / "driver").read_text().strip()


def add_box(room: MachineRoom) -> None:
    """Have Vagrant unpack the box, unless it has: machines that start side by side must not do it all at once."""
    if "libvirt" not in room.run("vagrant", "box", "list"):
        room.run("vagrant", "box", "add", "--provider=libvirt", f"file://{places.box() / 'catalogue.json'}")


def scenarios(room: MachineRoom, chosen: Sequence[MachineKernel], wish: Wish) -> list[Outcome]:
    """Run the scenarios in a machine for each kernel; each is taken down after that."""
    add_box(room)
    interrupted = threading.Event()

    def settle(kernel: MachineKernel) -> Outcome:
        machine = VagrantMachine(room, kernel.series)
        results = Path.cwd() / RESULTS / kernel.series
        part = results.with_name(f".{kernel.series}.part")
        for old in (results, part):
            shutil.rmtree(old, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            return _settle(machine, kernel.stored.release, part, wish)
        except HarnessError as error:
            if not interrupted.is_set():
                wish.say(f"{machine.name}: {error}")
            return Outcome(kernel.series, kernel.stored.release, None, str(error).splitlines()[0])
        finally:
            machine.keep_console(part)
            with contextlib.suppress(OSError):
                part.rename(results)
            with contextlib.suppress(HarnessError):
                machine.destroy()

    pool = ThreadPoolExecutor(at_once(os.cpu_count() or 1, _free_memory()))
    try:
        return list(pool.map(settle, chosen))
    except BaseException:  # Ctrl-C: what the threads wait for ends with the room
        interrupted.set()
        pool.shutdown(wait=False, cancel_futures=True)
        room.end()
        wish.say(f"interrupted: the machines are down; what was finished before is in {RESULTS}")
        raise
    finally:
        pool.shutdown()


def _settle(machine: VagrantMachine, release: str, results: Path, wish: Wish) -> Outcome:
    wish.say(f"{machine.name}: up")
    up = machine.up()
    running = machine.release()
    if running != release:
        raise ProgramFailed(f"it runs {running}, and not {release}\n{machine.console()}")
    workers = wish.workers or WORKERS[driver()]
    wish.say(f"{machine.name}: up after {up:.0f} s; the scenarios, with {workers} workers")
    begun = time.monotonic()
    status = _run_shown(machine, workers, wish.more, results / "output.txt")
    ran = time.monotonic() - begun
    if status == LOST:
        raise ProgramFailed(f"the machine was lost after {ran:.0f} s\n{machine.console()}")
    machine.fetch(results)
    return Outcome(machine.kernel, release, status, "", up, ran)


def _run_shown(machine: VagrantMachine, workers: int, more: str, output: Path) -> int:
    """Run the scenarios; how they get on is shown, each line after the machine's name. The exit status."""
    options = f"{OPTIONS} {more}".strip()
    command = f"cd {PROJECT} && sudo make --no-print-directory scenarios WORKERS={workers} ARGS='{options}'"
    process = machine.ssh(command)
    assert process.stdout is not None
    progress = Progress()
    with process, output.open("w", encoding="utf-8", buffering=1) as kept:
        for line in process.stdout:
            kept.write(line)
            if shown := progress.shown(line):
                print(f"{machine.name} | {shown}", end="", flush=True)
    return process.returncode
