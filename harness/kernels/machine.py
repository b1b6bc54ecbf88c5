"""A virtual machine that runs a kernel: QEMU, booted or restored, its port, its console, and its end.

With simulated time the guest's clock counts instructions, and time in which it idles passes at once (QEMU's -icount
with sleep=off): a wait of a minute costs a moment. The machine has one CPU then. With real time it has two, and KVM
where KVM really works.

Nothing has a name in a shared place: the port and the monitor are socket pairs, the console is a file without a name.
QEMU dies with the thread that started it (prctl(2), PR_SET_PDEATHSIG), also when that is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from harness.errors import HarnessError, MissingProgram, Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qemu.qmp import QMPClient

    from harness.kernels.store import Stored

QEMU = "qemu-system-x86_64"
MEBIBYTES = 3072
PR_SET_PDEATHSIG = 1
CONSOLE_SHOWN = 25
# How long a guest may be silent while it is brought up, in seconds of real time.
BOOT = 180.0

_libc = ctypes.CDLL(None)


class MachineDied(HarnessError):
    """The virtual machine ended, or went silent; the message has the end of its console."""


@dataclass(frozen=True)
class Mode:
    """How a machine runs.

    `simulated` time counts instructions; otherwise time is real, with `cpus` CPUs. `memory` in MiB: some defaults of
    TCP depend on it.
    """

    simulated: bool = True
    memory: int = MEBIBYTES
    cpus: int = 2

    @property
    def name(self) -> str:
        """What tells snapshots of different modes apart."""
        return f"simulated-{self.memory}" if self.simulated else f"real-{self.memory}-{self.cpus}-{accelerator()}"


@functools.cache
def accelerator() -> str:
    """KVM for real time where a machine really starts with it (that /dev/kvm is there says nothing), otherwise tcg."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    tried = subprocess.run(
        [_qemu(), "-accel", "kvm", "-M", "pc", "-display", "none", "-nodefaults", "-S", "-daemonize"],
        check=False, capture_output=True, timeout=20,
    )  # fmt: skip
    return "kvm" if tried.returncode == 0 else "tcg"


def _qemu() -> str:
    found = shutil.which(QEMU)
    if found is None:
        raise MissingProgram(QEMU, "qemu-system-x86")
    return found


def arguments(kernel: Stored, mode: Mode) -> list[str]:
    """QEMU's command line but for the image and the ports."""
    # cx16: Linux 6.12 panics now and then in QEMU 7.2's emulation of that instruction.
    made = [_qemu(), "-M", "pc", "-m", str(mode.memory), "-nodefaults", "-no-user-config", "-display", "none"]
    made += ["-no-reboot", "-nic", "none"]
    if mode.simulated:
        made += ["-cpu", "qemu64,-cx16", "-accel", "tcg,thread=single,tb-size=512", "-smp", "1"]
        made += ["-icount", "shift=0,sleep=off", "-rtc", "base=utc,clock=vm"]
    elif accelerator() == "kvm":
        made += ["-cpu", "host", "-accel", "kvm", "-smp", str(mode.cpus)]
    else:
        made += ["-cpu", "qemu64,-cx16", "-accel", "tcg,thread=multi,tb-size=512", "-smp", str(mode.cpus)]
    words = ["console=ttyS0,115200", "panic=-1", "oops=panic", "mitigations=off", "net.ifnames=0", "loglevel=5"]
    words += ["module.sig_enforce=1"] * kernel.enforce
    return [*made, "-kernel", str(kernel.image), "-append", " ".join(words)]


class Machine:
    """A running machine. `port` is our end of the guest's serial port, as a file descriptor."""

    def __init__(self, kernel: Stored, mode: Mode, *, initrd: Path, state: Path | None = None) -> None:
        self.kernel = kernel
        self.mode = mode
        self.console: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the machine
        ours, theirs = socket.socketpair()
        self.monitor, monitor = socket.socketpair()
        self._loop = asyncio.Runner()
        self._control: QMPClient | None = None
        self.port = ours
        # QEMU takes a descriptor for a file only if it may do what QEMU would have opened it for.
        console = os.open(f"/proc/self/fd/{self.console.fileno()}", os.O_WRONLY | os.O_APPEND)
        port, control = theirs.fileno(), monitor.fileno()
        descriptors = [port, control, console]
        words = [
            *arguments(kernel, mode),
            *("-initrd", str(initrd)),
            *("-add-fd", f"fd={console},set=1", "-chardev", "file,id=console,path=/dev/fdset/1,append=on"),
            *("-serial", "chardev:console"),
            *("-chardev", f"socket,id=port,fd={port}", "-device", "virtio-serial-pci"),
            *("-device", "virtserialport,chardev=port,name=harness"),
            *("-chardev", f"socket,id=monitor,fd={control}", "-mon", "chardev=monitor,mode=control"),
        ]
        if state is not None:
            self._state = state.open("rb")
            descriptors.append(self._state.fileno())
            words += ["-incoming", f"fd:{self._state.fileno()}"]
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the machine
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.errors, pass_fds=descriptors,
            start_new_session=True, preexec_fn=die_with_parent,  # noqa: PLW1509 - one call of libc's, no lock taken
        )  # fmt: skip
        os.close(console)
        theirs.close()
        monitor.close()
        if state is not None:
            self._state.close()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End QEMU, however it is."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._loop.run(self._disconnect())
        self._loop.close()
        for one in (self.port, self.monitor, self.console, self.errors):
            one.close()

    # The conversation with harness.kernels.guest.

    def ready(self, deadline: float = BOOT) -> dict[str, Any]:
        """Wait until the guest waits for the next thing to do; what it answered."""
        answer: dict[str, Any] = json.loads(self._line(deadline))
        if "error" in answer:
            raise MachineDied(
                f"{self.kernel.release}: the guest could not do it: {answer['error']}\n{self.console_end()}"
            )
        return answer

    def tell(self, content: bytes = b"", **words: Any) -> None:
        """Say what to do next."""
        self.port.setblocking(True)
        self.port.sendall(json.dumps(words).encode() + b"\n" + content)

    def _line(self, deadline: float) -> bytes:
        line = bytearray()
        until = time.monotonic() + deadline
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([self.port], [], [], 0.2)
            if readable:
                data = self.port.recv(1)
                if not data:
                    raise self.died("it ended")
                line += data
            elif self.process.poll() is not None:
                raise self.died("QEMU ended")
            elif time.monotonic() > until:
                raise self.died(f"nothing was heard of it for {deadline:g} s")
        return bytes(line)

    def died(self, how: str) -> MachineDied:
        """The error that the machine is no more, with what it said last."""
        self.errors.seek(0)
        qemu = self.errors.read().decode(errors="replace").strip()
        parts = [f"the machine with kernel {self.kernel.release} died: {how}", qemu, self.console_end()]
        return MachineDied("\n".join(part for part in parts if part))

    def console_end(self, lines: int = CONSOLE_SHOWN) -> str:
        """The last lines of the console."""
        text = os.pread(self.console.fileno(), 1 << 20, 0).decode(errors="replace").replace("\r", "")
        return "\n".join(f"  | {line}" for line in text.splitlines()[-lines:])

    # Its state.

    def save(self, file: Path) -> None:
        """Stop the machine and write its state; the file appears whole."""
        part = file.with_name(f".{file.name}.part")
        try:
            with part.open("wb") as out:
                self._loop.run(self._save(out.fileno()))
            part.replace(file)
        except OSError as error:
            raise Unsupported(f"{file.parent}: a machine's state cannot be kept there: {error.strerror}") from None
        finally:
            part.unlink(missing_ok=True)

    async def _save(self, fd: int) -> None:
        control = await self._connected()
        await control.execute("stop")
        await control.execute("migrate-set-parameters", {"max-bandwidth": 20 << 30})
        control.send_fd_scm(fd)
        await control.execute("getfd", {"fdname": "state"})
        await control.execute("migrate", {"uri": "fd:state"})
        while True:
            found: Any = await control.execute("query-migrate")
            if found.get("status") == "completed":
                return
            if found.get("status") in ("failed", "cancelled"):
                raise self.died(f"its state could not be written: {found.get('error-desc', found['status'])}")
            await asyncio.sleep(0.02)

    def resume(self) -> None:
        """Let a machine run whose state has been read; states are saved while it is stopped."""
        self._loop.run(self._resume())

    async def _resume(self) -> None:
        control = await self._connected()
        while True:
            found: Any = await control.execute("query-status")
            if found["status"] != "inmigrate":
                break
            await asyncio.sleep(0.01)
        await control.execute("cont")

    async def _connected(self) -> QMPClient:
        """The connection to QEMU's monitor, which greets once."""
        from qemu.qmp import QMPClient

        if self._control is None:
            self._control = QMPClient("harness")
            await self._control.connect(self.monitor)
        return self._control

    async def _disconnect(self) -> None:
        if self._control is not None:
            with contextlib.suppress(Exception):  # whatever is left of a connection to a QEMU that was killed
                await self._control.disconnect()


def die_with_parent() -> None:
    """Let the kernel end this process when the thread that started it ends, however that happens."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def environment(extra: Sequence[str] = ()) -> dict[str, str]:
    """The environment of whatever runs in a guest: the outside one's names that matter there."""
    kept = ("LANG", "TERM", "COLUMNS", "PYTHONPATH", "PYTHONUNBUFFERED", *extra)
    made = {name: os.environ[name] for name in kept if name in os.environ}
    return made | {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "USER": "root",
    }
