"""What the socket module lacks for packet sockets: a classic BPF filter, and binding without a device's name."""

from __future__ import annotations

import ctypes
import os
import socket
import struct

# include/uapi/linux/bpf_common.h, filter.h, asm-generic/socket.h
SO_ATTACH_FILTER = 26
LOAD_HALF, LOAD_BYTE, LOAD_HALF_INDEXED, LOAD_IP_HEADER_SIZE = 0x28, 0x30, 0x48, 0xB1
JUMP_EQUAL, JUMP_BITS, RETURN = 0x15, 0x45, 0x06
WHOLE_PACKET = 0x40000

INSTRUCTION = struct.Struct("=HBBI")
PROGRAM = struct.Struct("@HP")
SOCKADDR_LL = struct.Struct("=H2siHBB8x")

Instruction = tuple[int, int, int, int]

_libc = ctypes.CDLL(None, use_errno=True)


def tcp_port(port: int) -> list[Instruction]:
    """Accept the Ethernet frames with a TCP segment from or to a port, IPv4 (first fragments) and IPv6."""
    # Jumps count the instructions to skip: those to "drop" end at 18, those to "take" at 19.
    return [
        (LOAD_HALF, 0, 0, 12),
        (JUMP_EQUAL, 0, 6, 0x86DD),
        (LOAD_BYTE, 0, 0, 20),
        (JUMP_EQUAL, 0, 14, socket.IPPROTO_TCP),
        (LOAD_HALF, 0, 0, 54),
        (JUMP_EQUAL, 13, 0, port),
        (LOAD_HALF, 0, 0, 56),
        (JUMP_EQUAL, 11, 10, port),
        (JUMP_EQUAL, 0, 9, 0x0800),
        (LOAD_BYTE, 0, 0, 23),
        (JUMP_EQUAL, 0, 7, socket.IPPROTO_TCP),
        (LOAD_HALF, 0, 0, 20),
        (JUMP_BITS, 5, 0, 0x1FFF),
        (LOAD_IP_HEADER_SIZE, 0, 0, 14),
        (LOAD_HALF_INDEXED, 0, 0, 14),
        (JUMP_EQUAL, 3, 0, port),
        (LOAD_HALF_INDEXED, 0, 0, 16),
        (JUMP_EQUAL, 1, 0, port),
        (RETURN, 0, 0, 0),
        (RETURN, 0, 0, WHOLE_PACKET),
    ]


def attach(packets: socket.socket, program: list[Instruction]) -> None:
    """Attach a program: it runs for each packet, before the packet costs anything more."""
    code = ctypes.create_string_buffer(b"".join(INSTRUCTION.pack(*line) for line in program))
    packets.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, PROGRAM.pack(len(program), ctypes.addressof(code)))


def bind(packets: socket.socket, protocol: int, interface: int) -> None:
    """Bind a packet socket to an interface by index, 0 for all; protocol 0 makes it deaf."""
    address = SOCKADDR_LL.pack(socket.AF_PACKET, protocol.to_bytes(2, "big"), interface, 0, 0, 0)
    if _libc.bind(packets.fileno(), address, len(address)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"bind: {os.strerror(number)}")
