"""The TCP sockets of this network namespace by /proc/net/tcp, where the kernel gives no inet_diag."""

import binascii
import struct
from typing import Iterator

from harness.incident.collector.diag import ALL, MAPPED_ADDRESS, STATES, TIMERS, Found, dump

DIRECTORY = "/proc/self/net/"
# The kernel prints addresses as 32-bit numbers of the machine (net/ipv4/tcp_ipv4.c, get_tcp4_sock()).
TICK = 10  # milliseconds: USER_HZ is 100 everywhere.


def sockets(states: int = ALL, extensions: int = 0) -> "tuple[Iterator[Found], str]":
    """The sockets, and by which way: "inet_diag" or "/proc/net/tcp"."""
    found = dump(states, extensions)
    try:
        first = next(found, None)
    except OSError:
        return from_files(states), "/proc/net/tcp"
    return _with(first, found), "inet_diag"


def _with(first: "Found | None", rest: "Iterator[Found]") -> "Iterator[Found]":
    if first is not None:
        yield first
        for each in rest:
            yield each


def from_files(states: int, directory: str = DIRECTORY) -> "Iterator[Found]":
    """What the files list; of a listener, Send-Q is not its limit and says nothing."""
    for name, family in (("tcp", 2), ("tcp6", 10)):
        try:
            lines = open(directory + name)
        except OSError:
            continue
        with lines:
            next(lines, None)
            for line in lines:
                found = parse(line, family)
                if found is not None and states >> number_of(line) & 1:
                    yield found


def number_of(line: str) -> int:
    """The state's number in a line."""
    return int(line.split(None, 4)[3], 16)


def parse(line: str, family: int) -> "Found | None":
    """One line of /proc/net/tcp or tcp6; None for what is none."""
    words = line.split()
    if len(words) < 10 or len(words[3]) != 2:
        return None
    found = Found()
    found.family = family
    try:
        found.local, found.peer = endpoint(words[1]), endpoint(words[2])
        found.state = STATES.get(int(words[3], 16), "UNKNOWN")
        sent, received = words[4].split(":")
        timer, when = words[5].split(":")
        found.queues = int(received, 16), int(sent, 16)
        found.timer = TIMERS[int(timer, 16)] if int(timer, 16) < len(TIMERS) else "unknown"
        found.expires = int(when, 16) * TICK
        found.retransmits = int(words[6], 16)
        found.inode = int(words[9])
    except ValueError:
        return None
    found.identity = found.attributes = b""
    return found


def endpoint(printed: str) -> "tuple[bytes, int]":
    """An address of 4 or 16 bytes, and a port."""
    address, _, port = printed.partition(":")
    raw = binascii.unhexlify(address)
    if len(raw) not in (4, 16):
        raise ValueError(printed)
    packed = b"".join(struct.pack(">I", number) for number in struct.unpack("=%dI" % (len(raw) // 4), raw))
    return (packed[12:] if packed.startswith(MAPPED_ADDRESS) and len(packed) == 16 else packed), int(port, 16)
