"""The TCP sockets of this network namespace, asked of the kernel by inet_diag; by /proc/net/tcp where it cannot."""

import os
import socket
import struct
from typing import Iterator

# include/uapi/linux/netlink.h, sock_diag.h and inet_diag.h. TCPDIAG_GETSOCK is older than SOCK_DIAG_BY_FAMILY, and
# kernels since 2.6.14 answer it: with both families, in one walk through the table (inet_diag_dump_compat).
NETLINK_SOCK_DIAG = 4
TCPDIAG_GETSOCK = 18
SOCK_DIAG_BY_FAMILY = 20
REQUEST, DUMP = 0x1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
INFO, SKMEMINFO = 2, 7

HEADER = struct.Struct("=IHHII")
ASK_ALL = struct.Struct("=xxxB48xIxxxx")
ASK_ONE = struct.Struct("=BBBxI48s")
# The header, then struct inet_diag_msg: family, state, timer, retransmits; ports; addresses; interface, cookie;
# expires, Recv-Q, Send-Q, uid, inode.
MESSAGE = struct.Struct("=IHxxxxxxxxxxBBBB2s2s16s16sI8sIIIII")
PORT = struct.Struct(">H")
PAST_DUE = 1 << 31

STATES = {
    1: "ESTAB", 2: "SYN-SENT", 3: "SYN-RECV", 4: "FIN-WAIT-1", 5: "FIN-WAIT-2", 6: "TIME-WAIT", 7: "UNCONN",
    8: "CLOSE-WAIT", 9: "LAST-ACK", 10: "LISTEN", 11: "CLOSING", 12: "SYN-RECV",
}  # fmt: skip
TIMERS = ("", "on", "keepalive", "timewait", "persist", "delack")
LISTENING = 1 << 10
ALL = (1 << 13) - 1
MAPPED_ADDRESS = b"\0" * 10 + b"\xff\xff"


class Found:
    """A socket as the kernel shows it; `attributes` are undecoded, `identity` is what asks for it again."""

    __slots__ = (
        "attributes", "expires", "family", "identity", "inode", "local", "peer", "queues", "retransmits", "state",
        "timer",
    )  # fmt: skip

    state: str
    family: int
    local: "tuple[bytes, int]"
    peer: "tuple[bytes, int]"
    queues: "tuple[int, int]"
    timer: str
    expires: int
    retransmits: int
    inode: int
    identity: bytes
    attributes: bytes


def dump(states: int, extensions: int = 0) -> "Iterator[Found]":
    """Every TCP socket in one of these states, a bit each. OSError where the kernel has no inet_diag for us."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as talking:
        body = ASK_ALL.pack(extensions, states)
        talking.send(HEADER.pack(HEADER.size + len(body), TCPDIAG_GETSOCK, REQUEST | DUMP, 1, 0) + body)
        going_on = True
        while going_on:
            answer = talking.recv(1 << 18)
            offset = 0
            while offset < len(answer):
                length, kind = HEADER.unpack_from(answer, offset)[:2]
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    _raise_error(answer[offset + HEADER.size : offset + length])
                    going_on = False
                    break
                yield decode(answer, offset, length)
                offset += (length + 3) & ~3


def _raise_error(body: bytes) -> None:
    status = struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
    if status:
        raise OSError(-status, os.strerror(-status))


def decode(answer: bytes, offset: int, length: int) -> Found:
    """One message of the kernel's answer."""
    (
        _, _, family, state, timer, retransmits, sport, dport, source, destination, _, _, expires, recv_q, send_q, _,
        inode,
    ) = MESSAGE.unpack_from(answer, offset)  # fmt: skip
    found = Found()
    found.state = STATES.get(state, "UNKNOWN")
    found.family = family
    found.local = _address(family, source), PORT.unpack(sport)[0]
    found.peer = _address(family, destination), PORT.unpack(dport)[0]
    found.queues = recv_q, send_q
    found.timer = TIMERS[timer] if timer < len(TIMERS) else "unknown"
    found.expires = 0 if expires >= PAST_DUE else expires
    found.retransmits = retransmits
    found.inode = inode
    # struct inet_diag_sockid begins with the ports and ends with the cookie.
    found.identity = answer[offset + HEADER.size + 4 : offset + HEADER.size + 52]
    found.attributes = answer[offset + MESSAGE.size : offset + length]
    return found


def _address(family: int, packed: bytes) -> bytes:
    if family == socket.AF_INET:
        return packed[:4]
    return packed[12:] if packed.startswith(MAPPED_ADDRESS) else packed


def attribute(block: bytes, wanted: int) -> bytes:
    """One attribute of a message; empty where it has none such."""
    offset = 0
    while offset + 4 <= len(block):
        length, kind = struct.unpack_from("=HH", block, offset)
        if length < 4:
            break
        if kind == wanted:
            return block[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return b""


def drops(found: Found) -> "int | None":
    """What a listener has dropped (SK_MEMINFO_DROPS); None on kernels that do not say."""
    memory = attribute(found.attributes, SKMEMINFO)
    return struct.unpack_from("=32xI", memory)[0] if len(memory) >= 36 else None


# struct tcp_info (include/uapi/linux/tcp.h), as ss names them; times in milliseconds but where divided.
TCP_INFO = struct.Struct("=8B24I")
INFO_NAMES = (
    "", "", "retransmits", "probes", "backoff", "options", "", "", "rto", "ato", "mss", "rcvmss", "unacked", "sacked",
    "lost", "retrans", "", "lastsnd", "", "lastrcv", "lastack", "pmtu", "", "rtt", "rttvar", "", "cwnd", "", "", "", "",
    "total_retrans",
)  # fmt: skip
IN_MICROSECONDS = ("rto", "ato", "rtt", "rttvar")


def info(found: Found) -> "dict[str, float]":
    """The tcp_info of one socket now; empty where it is gone, or where the kernel keeps it to itself."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as talking:
            body = ASK_ONE.pack(found.family, socket.IPPROTO_TCP, 1 << (INFO - 1), ALL, found.identity)
            talking.send(HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, REQUEST, 1, 0) + body)
            answer = talking.recv(1 << 16)
    except OSError:
        return {}
    length, kind = HEADER.unpack_from(answer)[:2]
    if kind != SOCK_DIAG_BY_FAMILY:
        return {}
    return decode_info(attribute(answer[MESSAGE.size : length], INFO))


def decode_info(raw: bytes) -> "dict[str, float]":
    """The numbers of struct tcp_info that are not 0, by name, in milliseconds and pieces."""
    if len(raw) < TCP_INFO.size:
        return {}
    values = {}
    for name, value in zip(INFO_NAMES, TCP_INFO.unpack_from(raw)):
        if name and value:
            values[name] = value / 1000 if name in IN_MICROSECONDS else value
    return values
