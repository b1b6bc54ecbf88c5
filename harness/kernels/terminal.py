"""A program in a guest whose input and output are ours: a shell, or a pytest that one talks to.

What passes through the machine's port are frames: a letter, the length of what follows in four bytes, and that. To the
guest `i` is input, `e` its end, `w` the size of the terminal; from it `o` is output, `x` what goes to standard error,
`s` how the program ended. harness.kernels.guest has the other side.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import signal
import struct
import sys
import termios
import time
import tty
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.kernels import guest
from harness.kernels.machine import environment
from harness.kernels.project import File
from harness.kernels.pulse import Pulse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.kernels.machine import VirtualMachine

# What ends the machine at once, whatever runs in it, where there is a terminal: Ctrl-].
END = b"\x1d"
AT_ONCE = 1 << 16
TERMINFO = ("/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo")
# What a shell that was ended so has as its status, as by SIGKILL.
KILLED = 128 + signal.SIGKILL


def has_terminal() -> bool:
    """Whether whoever started us has a terminal for input and output."""
    return os.isatty(0) and os.isatty(1)


def run(
    machine: VirtualMachine,
    argv: Sequence[str],
    *,
    directory: str,
    variables: dict[str, str],
    terminal: bool,
    watched: bool = True,
) -> int:
    """Run a program in a machine that waits for something to do; its exit status.

    With a terminal it has one too; otherwise its output and its errors stay apart. MachineDied if the machine ends, or,
    if it is `watched`, shows no life.
    """
    machine.tell(
        do="run",
        argv=list(argv),
        directory=directory,
        environment=environment() | variables,
        clock=time.time(),
        seed=secrets.token_hex(guest.SEED),
        size=_size() if terminal else None,
    )
    conversation = _Conversation(machine, watched=watched)
    with _raw_terminal(conversation) if terminal else contextlib.nullcontext():
        return conversation.hold(terminal=terminal)


def description() -> dict[str, File]:
    """What programs read of how to talk to our terminal (terminfo), by its path; nothing for one that nobody knows."""
    name = os.environ.get("TERM", "")
    for place in TERMINFO if re.fullmatch(r"[\w.+-]+", name) else ():
        file = Path(place, name[0], name)
        if file.is_file():
            return {str(file)[1:]: File(file.read_bytes(), 0o644)}
    return {}


def _size() -> tuple[int, int]:
    """Rows and columns of our terminal."""
    columns, rows = os.get_terminal_size(0)
    return rows, columns


@contextlib.contextmanager
def _raw_terminal(conversation: _Conversation) -> Iterator[None]:
    """Each key goes to the guest, Ctrl-C too; the terminal is as before when the block ends."""
    before = termios.tcgetattr(0)
    resized = signal.signal(signal.SIGWINCH, lambda *_: conversation.send(b"w", struct.pack("!HH", *_size())))
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, resized)


@dataclass
class _Conversation:
    """What has yet to be sent, and what was received of a frame that is not whole."""

    machine: VirtualMachine
    watched: bool
    _to_send: bytearray = field(default_factory=bytearray)
    _received: bytearray = field(default_factory=bytearray)
    _input_is_open: bool = True

    def send(self, kind: bytes, content: bytes = b"") -> None:
        """Have a frame sent."""
        self._to_send += kind + struct.pack("!I", len(content)) + content

    def hold(self, *, terminal: bool) -> int:
        """Pass on what comes from either side, until the program has ended; its status."""
        self.machine.port.setblocking(False)
        port = self.machine.port.fileno()
        pulse = Pulse(self.machine)
        while True:
            # No more is taken from us than the guest has taken.
            reading = [port, *([0] if self._input_is_open and len(self._to_send) < AT_ONCE else [])]
            readable, writable, _ = select.select(reading, [port] if self._to_send else [], [], 0.5)
            if port in readable:
                pulse.heard()
                if (status := self._receive()) is not None:
                    return status
            if 0 in readable and not self._read_input(terminal=terminal):
                return KILLED
            if port in writable:
                self._send_some()
            if self.machine.process.poll() is not None and port not in readable:
                raise self.machine.died("QEMU ended")
            if not readable and self.watched and (wrong := pulse.wrong()):
                raise self.machine.died(wrong)

    def _read_input(self, *, terminal: bool) -> bool:
        """Take what was typed; False if that ends the machine."""
        try:
            data = os.read(0, AT_ONCE)
        except OSError:  # the terminal is gone
            return False
        if terminal and (not data or END in data):
            return False
        self._input_is_open = bool(data)
        self.send(b"i" if data else b"e", data)
        return True

    def _send_some(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            del self._to_send[: self.machine.port.send(self._to_send)]

    def _receive(self) -> int | None:
        """Show what has come; the status, if that was it."""
        with contextlib.suppress(ConnectionError):
            data = self.machine.port.recv(AT_ONCE)
            if not data:
                raise self.machine.died("it ended")
            self._received += data
        while len(self._received) >= 5:
            kind, (size,) = self._received[:1], struct.unpack("!I", self._received[1:5])
            if len(self._received) < 5 + size:
                break
            content = bytes(self._received[5 : 5 + size])
            del self._received[: 5 + size]
            if kind == b"s":
                return int(struct.unpack("!I", content)[0])
            _write(1 if kind == b"o" else 2, content)
        return None


def _write(fd: int, data: bytes) -> None:
    (sys.stdout if fd == 1 else sys.stderr).flush()
    while data:
        data = data[os.write(fd, data) :]
