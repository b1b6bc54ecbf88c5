"""Frames that arrive at an interface without having been sent: a test run of XDP hands them to the kernel's stack.

What a packet socket sends passes the sender's half of a cable and a processor's backlog first, which costs more than a
SYN costs the listener. Here a BPF program copies the next of some frames into each page that the kernel receives, and
passes it on to the stack (BPF_PROG_RUN with BPF_F_TEST_XDP_LIVE_FRAMES: net/bpf/test_run.c, since 5.18).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import time
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING

from harness.errors import Unsupported
from harness.lab.netns import Namespace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.lab import Host

    Buffer = ctypes.Array[ctypes.c_char]

# bpf(2), by architecture; all of them number registers in the lower half of the byte first, as s390x does not.
BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "ppc64le": 361}
MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, PROG_LOAD, PROG_RUN, LINK_CREATE = 0, 1, 2, 5, 10, 28
ARRAY, XDP, LIVE_FRAMES, ATTACHED_AS_XDP, XDP_GENERIC = 2, 6, 2, 37, 2
# Where the kernel would not trust the processor with eight bytes at any address: packets begin at a multiple of 256.
ANY_ALIGNMENT = 2
LOOPBACK = 1
XDP_DROP, XDP_PASS = 1, 2
# include/uapi/linux/bpf.h, union bpf_attr, one for each command; struct xdp_md.
NEW_MAP = struct.Struct("=IIIII")
VALUE = struct.Struct("=I4xQQQ")
NEW_PROGRAM = struct.Struct("=IIQQIIQII")
NEW_LINK = struct.Struct("=IIII")
RUN = struct.Struct("=IIIIQQIIIIQQIII4x")
CONTEXT = struct.Struct("=IIIIII")
# Which frame is next, and how many have arrived.
POSITION = struct.Struct("=QQ")
INSTRUCTION = struct.Struct("=BBhi")

# Instructions, and how each says the width of what it moves.
LOAD, STORE, MOVE, MOVE_NUMBER, ADD, ADD_NUMBER, TIMES = 0x61, 0x63, 0xBF, 0xB7, 0x0F, 0x07, 0x27
IF_GREATER, IF_BELOW, LOAD_ADDRESS, EXIT = 0x2D, 0xA5, 0x18, 0x95
WIDTHS = {8: 0x18, 4: 0x00, 2: 0x08, 1: 0x10}
OF_MAP_VALUE = 2

# A run is not to last much longer than this, in seconds: it does not see that a flood is over. One that lasted less
# than a part of that was too small by far.
LASTS, FAR_TOO_SHORT = 0.01, 0.001
LEAST, MOST = 256, 1 << 20
# Frames that the kernel takes in one go, as many as it does unless told.
BATCH = 64
# What ends a run before its end: a thread that was stopped or frozen and goes on, and no memory at that moment.
BROKEN_OFF = {errno.EINTR, errno.ENOMEM, errno.EAGAIN}

_libc = ctypes.CDLL(None, use_errno=True)


class Arriving:
    """Frames of one length, which arrive at an interface of `host` round and round. Raises Unsupported.

    The host's counters of segments and its packet sockets see them. The counters of its interface, the other end of the
    cable and what is on the cable do not.
    """

    def __init__(self, host: Host, interface: str, made: Sequence[bytes]) -> None:
        length = len(made[0])
        stride = -(-length // 8) * 8
        value = b"".join(frame.ljust(stride, b"\0") for frame in made)
        self.at_once = LEAST
        self._seen = 0
        self._host = host
        self._first = ctypes.create_string_buffer(made[0], length)
        index = host.interfaces[interface].index
        self._context = ctypes.create_string_buffer(CONTEXT.pack(0, length, 0, index, 0, 0), CONTEXT.size)
        with ExitStack() as undo:
            frames = _call(MAP_CREATE, NEW_MAP.pack(ARRAY, 4, len(value), 1, 0))
            undo.callback(os.close, frames)
            self._position = _call(MAP_CREATE, NEW_MAP.pack(ARRAY, 4, POSITION.size, 1, 0))
            undo.callback(os.close, self._position)
            _at_first(MAP_UPDATE, frames, ctypes.create_string_buffer(value, len(value)))
            self._program = _load(_copies(frames, self._position, len(made), length, stride))
            undo.callback(os.close, self._program)
            # The kernel adds a program to a dispatcher at its first use, takes it out after its last one, and waits for
            # RCU each time (kernel/bpf/dispatcher.c): 24 ms a run. So the program is also in use elsewhere, on an
            # interface where no packet ever comes.
            nowhere = Namespace()
            undo.callback(nowhere.close)
            link = nowhere.call(
                lambda: _call(LINK_CREATE, NEW_LINK.pack(self._program, LOOPBACK, ATTACHED_AS_XDP, XDP_GENERIC))
            )
            undo.callback(os.close, link)
            self._close = undo.pop_all()

    def send(self, most: int) -> int:
        """Let up to `most` frames arrive, no more than `at_once`; how many, fewer if the run was broken off."""
        count = min(most, self.at_once)
        begun = time.monotonic()
        try:
            # The kernel looks for the interface among those of the caller's network namespace.
            with self._host:
                _run(self._program, self._first, count, self._context)
        except OSError as error:
            if error.errno not in BROKEN_OFF:
                raise
            count = self._arrived() - self._seen
            self._seen += count
            return count
        self._seen += count
        lasted = time.monotonic() - begun
        if lasted > LASTS * 2:
            self.at_once = max(count // 2, LEAST)
        elif lasted < LASTS / 2 and count == self.at_once:
            self.at_once = min(count * (8 if lasted < FAR_TOO_SHORT else 2), MOST)
        return count

    def _arrived(self) -> int:
        """How many have arrived since the beginning, by the program's own count."""
        value = ctypes.create_string_buffer(POSITION.size)
        _at_first(MAP_LOOKUP, self._position, value)
        arrived: int = POSITION.unpack(value.raw)[1]
        return arrived

    def close(self) -> None:
        """Let the kernel forget the program and the frames."""
        self._close.close()


@cache
def can_arrive() -> bool:
    """Whether this kernel lets frames arrive like this, and lets us: since 5.18, for root of the machine."""
    try:
        program = _load(_number(MOVE_NUMBER, 0, XDP_DROP) + INSTRUCTION.pack(EXIT, 0, 0, 0))
    except (OSError, Unsupported):
        return False
    try:
        # It arrives at this namespace's loopback interface, and is dropped by the program.
        _run(program, ctypes.create_string_buffer(64), 1, None)
    except OSError:
        return False
    finally:
        os.close(program)
    return True


def _run(program: int, frame: Buffer, count: int, context: Buffer | None) -> None:
    size, at = (len(context), ctypes.addressof(context)) if context is not None else (0, 0)
    data = ctypes.addressof(frame)
    # A kernel before 5.18 ignores the flag, but refuses an attribute that it does not know: the size of a batch.
    _call(PROG_RUN, RUN.pack(program, 0, len(frame), 0, data, 0, count, 0, size, 0, at, 0, LIVE_FRAMES, 0, BATCH))


def _load(code: bytes) -> int:
    """The descriptor of a program."""
    instructions, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    at = ctypes.addressof(instructions), ctypes.addressof(licence)
    return _call(PROG_LOAD, NEW_PROGRAM.pack(XDP, len(code) // INSTRUCTION.size, *at, 0, 0, 0, 0, ANY_ALIGNMENT))


def _at_first(command: int, of: int, value: Buffer) -> None:
    """Write or read the only value of a map."""
    key = ctypes.create_string_buffer(4)
    _call(command, VALUE.pack(of, ctypes.addressof(key), ctypes.addressof(value), 0))


def _copies(frames: int, position: int, count: int, length: int, stride: int) -> bytes:
    """A program that copies the next of `count` frames into a packet; maps with the frames, and with the position."""
    copying = b""
    at = 0
    for width, bits in WIDTHS.items():
        while length - at >= width:
            copying += INSTRUCTION.pack(LOAD ^ bits, 0 | 5 << 4, at, 0)  # r0 = frame[at]
            copying += INSTRUCTION.pack(STORE ^ bits, 2 | 0 << 4, at, 0)  # packet[at] = r0
            at += width
    parts = [
        INSTRUCTION.pack(LOAD_ADDRESS, 5 | OF_MAP_VALUE << 4, 0, frames),  # r5: the frames, an address of two parts
        INSTRUCTION.pack(0, 0, 0, 0),
        INSTRUCTION.pack(LOAD_ADDRESS, 8 | OF_MAP_VALUE << 4, 0, position),
        INSTRUCTION.pack(0, 0, 0, 0),
        INSTRUCTION.pack(LOAD ^ WIDTHS[8], 7 | 8 << 4, 8, 0),
        _number(ADD_NUMBER, 7, 1),
        INSTRUCTION.pack(STORE ^ WIDTHS[8], 8 | 7 << 4, 8, 0),  # another has arrived
        INSTRUCTION.pack(LOAD ^ WIDTHS[8], 6 | 8 << 4, 0, 0),  # r6 = the next
        INSTRUCTION.pack(IF_BELOW, 6, 1, count),
        _number(MOVE_NUMBER, 6, 0),
        INSTRUCTION.pack(MOVE, 7 | 6 << 4, 0, 0),
        _number(ADD_NUMBER, 7, 1),
        INSTRUCTION.pack(STORE ^ WIDTHS[8], 8 | 7 << 4, 0, 0),  # the next = r6 + 1
        _number(TIMES, 6, stride),
        INSTRUCTION.pack(ADD, 5 | 6 << 4, 0, 0),
        copying,
        _number(MOVE_NUMBER, 0, XDP_PASS),
        INSTRUCTION.pack(EXIT, 0, 0, 0),
    ]
    body = b"".join(parts)
    begin = [
        INSTRUCTION.pack(LOAD, 2 | 1 << 4, 0, 0),  # r2: where the packet begins
        INSTRUCTION.pack(LOAD, 3 | 1 << 4, 4, 0),  # r3: where it ends
        INSTRUCTION.pack(MOVE, 4 | 2 << 4, 0, 0),
        _number(ADD_NUMBER, 4, length),
        # The verifier wants to see that no byte behind the end is written.
        INSTRUCTION.pack(IF_GREATER, 4 | 3 << 4, len(body) // INSTRUCTION.size, 0),
    ]
    return b"".join([*begin, body, _number(MOVE_NUMBER, 0, XDP_DROP), INSTRUCTION.pack(EXIT, 0, 0, 0)])


def _number(what: int, register: int, number: int) -> bytes:
    return INSTRUCTION.pack(what, register, 0, number)


def _call(command: int, attributes: bytes) -> int:
    number = BPF.get(platform.machine())
    if number is None:
        raise Unsupported(f"bpf(2): its number on {platform.machine()} is not known here")
    result: int = _libc.syscall(number, command, attributes, len(attributes))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"bpf: {os.strerror(error)}")
    return result
