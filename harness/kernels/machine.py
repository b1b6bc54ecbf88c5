"""A virtual machine that runs a kernel: QEMU, booted or restored, its port, its console, and its end.

With simulated time the guest's clock counts instructions, and time in which it idles passes at once (QEMU's -icount
with sleep=off): a wait of a minute costs a moment. The machine has one CPU then. With real time it has as many as its
mode says, and KVM where KVM really works.

Nothing has a name in a shared place: the port and the monitor are socket pairs, the console is a file without a name.
QEMU dies with the thread that started it, also when that is killed.

A state is a file of two parts: the machine's memory as it is, with holes where it was never used, and behind it what
QEMU writes of the rest. A machine that is restored maps the first, so that only what it looks at is read; what it
writes stays its own. One that is to be saved has its memory in a file without a name, from which it is copied.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import inspect
import json
import logging
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from harness.errors import HarnessError, MissingProgram
from harness.kernels import acceleration, bzimage, cache, guest, interpreters, places, pulse, store
from harness.orphans import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from qemu.qmp import QMPClient

    from harness.kernels.mode import Mode
    from harness.kernels.store import Stored

QEMU = "qemu-system-x86_64"
# In lines, and so many bytes are looked at for them.
CONSOLE_SHOWN, MUCH = 25, 1 << 20
# What QEMU writes of a state, and reads of it, is all but memory that is shared with us.
WITHOUT_MEMORY = {"capabilities": [{"capability": "x-ignore-shared", "state": True}]}
# How long a guest may be silent while it is brought up, in seconds in which it had its turn.
BOOT = 180.0


# What QEMU says of a state that it cannot use (migration/migration.c, process_incoming_migration_co()).
# What is compared with it, in one piece, is a hole.
ZEROS = bytes(1 << 16)
NO_STATE = re.compile(r"load of migration failed: (?!Cannot allocate memory)")


class MachineDied(HarnessError):
    """The virtual machine ended, or went silent; the message has the end of its console."""


def qemu() -> str:
    """Where QEMU is; MissingProgram if it is nowhere."""
    program = shutil.which(QEMU)
    if program is None:
        raise MissingProgram(QEMU, "qemu-system-x86")
    return program


def made_with() -> str:
    """What a state depends on beside the guest: QEMU, and what it is told here."""
    about = os.stat(qemu())  # noqa: PTH116
    return f"{about.st_size} {about.st_mtime_ns} {inspect.getsource(sys.modules[__name__])}"


def name_of(mode: Mode, kernel: Stored) -> str:
    """What tells apart the states of a kernel's machines that run differently."""
    if mode.simulated:
        return mode.name("")
    return mode.name("kvm" if acceleration.arguments(qemu(), kernel.image) == acceleration.KVM else "tcg")


def arguments(kernel: Stored, mode: Mode) -> list[str]:
    """QEMU's command line but for the image and the ports."""
    argv = [qemu(), "-M", "pc", "-m", str(mode.memory), "-nodefaults", "-no-user-config", "-display", "none"]
    argv += ["-no-reboot", "-nic", "none"]
    if mode.simulated:
        argv += ["-cpu", "qemu64", "-accel", "tcg,thread=single,tb-size=512", "-smp", "1"]
        argv += ["-icount", "shift=0,sleep=off", "-rtc", "base=utc,clock=vm"]
    else:
        argv += [*acceleration.arguments(qemu(), kernel.image), "-smp", str(mode.cpus)]
    words = ["console=ttyS0,115200", "panic=-1", "oops=panic", "mitigations=off", "net.ifnames=0", "loglevel=5"]
    # What the kernel says at boot is read by scenarios: a whole suite of floods must not push it out.
    words += ["log_buf_len=4M"]
    # Merged caches cannot be told apart in /proc/slabinfo; Debian's own kernels do not merge since 4.13.
    words += ["slab_nomerge"]
    words += ["module.sig_enforce=1"] * kernel.enforce
    # cmpxchg16b: Linux 6.12 panics now and then in QEMU 7.2's emulation of it. The kernel is not to use it
    # (X86_FEATURE_CX16, by its number: kernels before 6.0 take no name); programs of today do not start without.
    words += ["clearcpuid=141"] * mode.simulated
    # What is emulated is translated by its address: a program that is elsewhere each time it is started, with all its
    # libraries, is translated each time. It was a third of what the scenarios cost that run programs.
    words += ["norandmaps"] * mode.simulated
    # In real time on a busy host the emulated timer is late for the kernel's test of it, and the kernel panics:
    # "IO-APIC + timer doesn't work" (arch/x86/kernel/apic/io_apic.c, timer_irq_works()). With KVM it does not test.
    words += ["no_timer_check"] * (not mode.simulated)
    words += mode.append
    return [*argv, "-kernel", str(kernel.image), "-append", " ".join(words)]


class Answer(msgspec.Struct):
    """What a guest says when it has done something: what went wrong.

    If that was asked: what its kernel lacks, the exit code of pytest, and which files were imported.
    """

    error: str = ""
    lacking: tuple[str, ...] = ()
    code: int = 0
    imported: tuple[str, ...] = ()


class VirtualMachine:
    """A running machine. `port` is our end of the guest's serial port.

    At `gdb` a debugger finds QEMU's stub; what the machine says on its console is appended to the file `console`.
    """

    def __init__(
        self,
        kernel: Stored,
        mode: Mode,
        *,
        initrd: Path,
        state: Path | None = None,
        gdb: Path | None = None,
        console: Path | None = None,
        is_to_be_saved: bool = False,
    ) -> None:
        self.kernel = kernel
        self.mode = mode
        self._memory_size = mode.memory << 20
        # As long as the machine, or for good where somebody wants it; what stands there already is of its boot.
        self.console: IO[bytes] = tempfile.TemporaryFile() if console is None else console.open("a+b")  # noqa: SIM115
        self._console_is_at = console
        self._console_begins = os.fstat(self.console.fileno()).st_size
        ours, theirs = socket.socketpair()
        self.monitor, monitor = socket.socketpair()
        self._loop = asyncio.Runner()
        # What goes wrong is raised where it is waited for; of the rest nobody wants a traceback.
        self._loop.get_loop().set_exception_handler(lambda _, __: None)
        self._connecting: asyncio.Task[QMPClient] | None = None
        self.port = ours
        # QEMU takes a descriptor for a file only if it may do what QEMU would have opened it for.
        said = os.open(f"/proc/self/fd/{self.console.fileno()}", os.O_WRONLY | os.O_APPEND)
        port, control = theirs.fileno(), monitor.fileno()
        # What a machine is made of stays where it is as long as there is the machine (harness.kernels.cache).
        self._made_of = [cache.held_if_there(file) for file in (kernel.image, initrd)]
        self._state = None if state is None else cache.held_if_there(state)
        self._memory = self._memory_of(is_to_be_saved)
        holder = self._memory or self._state
        assert holder is not None
        descriptors = [port, control, said, holder.fileno()]
        kept_apart = "on" if self._memory else "off"
        words = [
            *arguments(kernel, mode),
            *(
                "-object",
                f"memory-backend-file,id=memory,size={self._memory_size},share={kept_apart}"
                f",mem-path=/proc/self/fd/{holder.fileno()}",
            ),
            *("-machine", "memory-backend=memory"),
            *("-initrd", str(initrd)),
            *("-add-fd", f"fd={said},set=1", "-chardev", "file,id=console,path=/dev/fdset/1,append=on"),
            *("-serial", "chardev:console"),
            *("-chardev", f"socket,id=port,fd={port}", "-device", "virtio-serial-pci"),
            *("-device", "virtserialport,chardev=port,name=harness"),
            *("-chardev", f"socket,id=monitor,fd={control}", "-mon", "chardev=monitor,mode=control"),
        ]
        if gdb is not None:
            words += ["-chardev", f"socket,id=gdb,path={gdb},server=on,wait=off", "-gdb", "chardev:gdb"]
        if self._state is not None:
            os.lseek(self._state.fileno(), self._memory_size, os.SEEK_SET)
            descriptors.append(self._state.fileno())
            words += ["-incoming", "defer"]
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the machine
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.errors, pass_fds=descriptors,
            start_new_session=True, preexec_fn=die_with_parent,  # noqa: PLW1509 - one call of libc's, no lock taken
        )  # fmt: skip
        os.close(said)
        theirs.close()
        monitor.close()

    def _memory_of(self, is_to_be_saved: bool) -> IO[bytes] | None:
        """A file for the memory of a machine that boots, or that is to be saved; None: its state's can be mapped.

        QEMU opens what it maps for writing, which it does not do; and refuses a file that is shorter than the memory
        before it says that this is no state.
        """
        if self._state is not None and not is_to_be_saved:
            is_whole = os.fstat(self._state.fileno()).st_size > self._memory_size
            if is_whole and os.access(self._state.name, os.W_OK):
                return None
        memory = os.fdopen(os.memfd_create("memory"), "r+b")
        if self._state is not None:
            copy_data(self._state.fileno(), memory.fileno(), self._memory_size)
        memory.truncate(self._memory_size)
        return memory

    def __enter__(self) -> VirtualMachine:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End QEMU, however it is; once is enough."""
        if self.port.fileno() < 0:
            return
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._loop.run(self._disconnect())
        self._loop.close()
        for file in (self.port, self.monitor, self.console, self.errors, *self._made_of, self._state, self._memory):
            if file is not None:
                file.close()

    # The conversation with harness.kernels.guest.

    def ready(self, deadline: float = BOOT) -> Answer:
        """Wait until the guest waits for the next thing to do; what it answered."""
        line = self._line(deadline)
        try:
            answer = msgspec.json.decode(line, type=Answer)
        except msgspec.MsgspecError:
            raise self.died(f"it said {line[:200]!r}") from None
        if answer.error:
            raise MachineDied(f"{self.kernel.release}: the guest could not do it: {answer.error}\n{self.console_end()}")
        return answer

    def tell(self, content: bytes = b"", **words: Any) -> None:
        """Say what to do next."""
        self.port.setblocking(True)
        try:
            self.port.sendall(json.dumps(words).encode() + b"\n" + content)
        except ConnectionError:
            raise self.died("it ended") from None

    def _line(self, deadline: float) -> bytes:
        line = bytearray()
        turn = pulse.Turn(self.process.pid)
        # The kernel unpacks itself with interrupts disabled.
        life = pulse.Pulse(self, times=8 * pulse.TIMES)
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([self.port], [], [], 0.2)
            if readable:
                data = self.port.recv(1)
                if not data:
                    raise self.died("it ended")
                line += data
            elif self.process.poll() is not None:
                raise self.died("QEMU ended")
            elif turn.look() > deadline:
                raise self.died(f"nothing was heard of it for {deadline:g} s")
            elif wrong := life.wrong():
                raise self.died(wrong)
        return bytes(line)

    def died(self, how: str) -> MachineDied | store.CannotRun:
        """The error that the machine is no more, with what it said last; if it said that it cannot be used, that."""
        said = self._said()
        cannot = re.search(rf"{guest.CANNOT} (.*)", self.console_end())
        if cannot:
            return self.useless(cannot[1].strip())
        since = "" if self._state is None else " since it was restored"
        console = self.console_end() or f"  | (nothing on its console{since})"
        words = re.findall(r"Kernel panic[^\n]*|BUG: [^\n]*", console)
        head = f"the machine with kernel {self.kernel.release} died: {how}"
        # A machine that was restored has unpacked its kernel long ago.
        damaged = bzimage.damage(self.kernel.image) if self._state is None else ""
        whole = "" if self._console_is_at is None else f"; its console: {self._console_is_at}"
        parts = [f"{head} ({words[0].strip()}){whole}" if words else head + whole, damaged, said, console]
        return MachineDied("\n".join(part for part in parts if part))

    def _said(self) -> str:
        """What QEMU has said on standard error."""
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace").strip()

    def useless(self, *lacks: str) -> store.CannotRun:
        """The error that scenarios cannot run on the kernel."""
        return store.CannotRun(store.cannot_run(self.kernel, lacks))

    def console_end(self, lines: int = CONSOLE_SHOWN) -> str:
        """The last lines of the console, of what this machine has said."""
        begins = max(self._console_begins, os.fstat(self.console.fileno()).st_size - MUCH)
        text = os.pread(self.console.fileno(), MUCH, begins).decode(errors="replace").replace("\r", "")
        return "\n".join(f"  | {line}" for line in text.splitlines()[-lines:])

    def whole_console(self) -> bytes:
        """All that it has said."""
        fd = self.console.fileno()
        return os.pread(fd, os.fstat(fd).st_size - self._console_begins, self._console_begins)

    # Its state.

    def save(self, file: Path) -> None:
        """Stop the machine, which was made for that, and write its state; the file appears whole."""
        part = file.with_name(f".{file.name}.part")
        try:
            with places.writing(file.parent, "a machine's state"):
                with part.open("wb") as out:
                    out.seek(self._memory_size)
                    self._converse(self._save(out.fileno()))
                    assert self._memory is not None
                    copy_data(self._memory.fileno(), out.fileno(), self._memory_size)
                part.replace(file)
        finally:
            part.unlink(missing_ok=True)

    async def _save(self, fd: int) -> None:
        control = await self._connected()
        await control.execute("stop")
        await control.execute("migrate-set-capabilities", WITHOUT_MEMORY)
        await control.execute("migrate-set-parameters", {"max-bandwidth": 20 << 30})
        control.send_fd_scm(fd)
        await control.execute("getfd", {"fdname": "state"})
        await control.execute("migrate", {"uri": "fd:state"})
        while True:
            migration: Any = await control.execute("query-migrate")
            if migration.get("status") == "completed":
                return
            if migration.get("status") in ("failed", "cancelled"):
                # QEMU does not say why.
                room = os.fstatvfs(fd)
                if room.f_bavail * room.f_frsize < 4 << 20:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                raise self.died(f"its state could not be written: {migration.get('error-desc', migration['status'])}")
            await asyncio.sleep(0.02)

    def resume(self) -> None:
        """Let a machine run whose state has been read; states are saved while it is stopped."""
        try:
            self._converse(self._resume())
        except MachineDied as error:
            # One that QEMU had no memory for, or that it was killed with, is as good as before.
            if self._state is None or not NO_STATE.search(self._said()):
                raise
            # What can be made again must not stand in the way for good.
            Path(self._state.name).unlink(missing_ok=True)
            raise MachineDied(
                f"{error}\nits state, {self._state.name}, is removed: it is made anew next time"
            ) from None

    async def _resume(self) -> None:
        control = await self._connected()
        if self._state is not None:
            await control.execute("migrate-set-capabilities", WITHOUT_MEMORY)
            await control.execute("migrate-incoming", {"uri": f"fd:{self._state.fileno()}"})
        while True:
            status: Any = await control.execute("query-status")
            if status["status"] != "inmigrate":
                break
            await asyncio.sleep(0.01)
        await control.execute("cont")

    def pause(self) -> None:
        """Stop the machine where it is, until a debugger continues it."""

        async def stop() -> None:
            await (await self._connected()).execute("stop")

        self._converse(stop())

    def _converse(self, what: Coroutine[Any, Any, None]) -> None:
        """Talk to QEMU to an end; MachineDied if it does not answer."""
        from qemu.qmp import QMPError

        try:
            self._loop.run(asyncio.wait_for(what, BOOT))
        except (QMPError, EOFError, ConnectionError, TimeoutError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)  # what it had to say comes with its end
            raise self.died(f"QEMU does not answer ({type(error).__name__})") from None

    def asked(self, what: Callable[[QMPClient], Awaitable[Any]], seconds: float) -> Any:
        """What QEMU answers in that time; None if it does not."""

        async def ask() -> Any:
            return await what(await self._connected())

        return self._loop.run(pulse.within(seconds, ask()))

    async def _connected(self) -> QMPClient:
        """The connection to QEMU's monitor, which greets once: whoever gives up waiting leaves it to the next."""
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> QMPClient:
        from qemu.qmp import QMPClient

        # What goes wrong comes as an exception.
        logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)
        control = QMPClient("harness")
        try:
            await control.connect(self.monitor)
        except AssertionError:  # it takes for granted that QEMU does not end just then
            raise ConnectionError("QEMU has ended after its greeting") from None
        return control

    async def _disconnect(self) -> None:
        if self._connecting is not None:
            with contextlib.suppress(Exception):  # whatever is left of a connection to a QEMU that was killed
                control = await self._connecting
                await control.disconnect()


def copy_data(source: int, target: int, size: int) -> None:
    """Copy so many bytes from a file's beginning to another's, but for its holes, and for zeros that could be holes.

    A state that was copied by a program that writes holes out would otherwise fill as much memory as a machine has.
    """
    end = 0
    while end < size:
        try:
            begin = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing more but a hole
                return
            raise
        end = min(size, os.lseek(source, begin, os.SEEK_HOLE))
        while begin < end and (some := os.pread(source, min(len(ZEROS), end - begin), begin)):
            if some != ZEROS[: len(some)]:
                write_all(target, some, begin)
            begin += len(some)
        if begin < end:  # it was cut off meanwhile
            return


def write_all(file: int, content: bytes, place: int) -> None:
    """Write bytes at a place of a file, all of them: OSError if there is no room, even where a part finds some."""
    while content:
        written = os.pwrite(file, content, place)
        content, place = content[written:], place + written


def environment(extra: Sequence[str] = ()) -> dict[str, str]:
    """The environment of whatever runs in a guest: the outside one's names that matter there."""
    names = ("LANG", "TERM", "COLUMNS", "PYTHONPATH", "PYTHONUNBUFFERED", *extra)
    return interpreters.variables(names) | {
        "PATH": guest.PATH,
        "HOME": "/root",
        "USER": "root",
    }
