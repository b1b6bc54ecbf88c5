"""Conditions that inet_diag checks in the kernel, which hands over only the sockets asked for (INET_DIAG_REQ_BYTECODE).

ss sends them, and looks at each socket that it is handed once more: only the number handed over shows what the kernel
makes of a condition. Source: net/ipv4/inet_diag.c, inet_diag_bc_run() and inet_diag_bc_audit().
"""

from __future__ import annotations

import struct

# include/uapi/linux/inet_diag.h
INET_DIAG_REQ_BYTECODE = 1
S_GE, S_LE, D_GE, D_LE, S_COND = 2, 3, 4, 5, 7

# struct inet_diag_bc_op: what to check, and by how many bytes to go on if it is so and if not. Beyond the end is "no".
OPERATION = struct.Struct("=BBH")
# struct inet_diag_hostcond without an address: family, length of the prefix, port.
HOST = struct.Struct("=BBxxi")
BEYOND = 4


def from_port(number: int) -> bytes:
    """The source port is this one, said as a host's port: `sport = :443`, as ss sends it."""
    length = OPERATION.size + HOST.size
    return OPERATION.pack(S_COND, length, length + BEYOND) + HOST.pack(0, 0, number)


def from_port_range(least: int, most: int) -> bytes:
    """The source port is one of these: `sport >= :1024 and sport <= :2047`."""
    return _between(S_GE, S_LE, least, most)


def to_port_range(least: int, most: int) -> bytes:
    """The destination port is one of these: `dport >= :1024 and dport <= :2047`."""
    return _between(D_GE, D_LE, least, most)


def _between(at_least: int, at_most: int, least: int, most: int) -> bytes:
    length = 2 * OPERATION.size
    first = OPERATION.pack(at_least, length, 2 * length + BEYOND) + OPERATION.pack(0, 0, least)
    return first + OPERATION.pack(at_most, length, length + BEYOND) + OPERATION.pack(0, 0, most)
