"""The wire format of inet_diag: asking the kernel for its TCP sockets, and taking its answers apart."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import HarnessError, Unsupported
from harness.lab import netlink
from harness.observe.bytecode import INET_DIAG_REQ_BYTECODE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.lab.host import Host

# include/uapi/linux/sock_diag.h and inet_diag.h
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
TCPDIAG_GETSOCK = 18
THE_END = (netlink.NLMSG_DONE, netlink.NLMSG_ERROR)

INET_DIAG_INFO = 2
INET_DIAG_CONG = 4
INET_DIAG_SKMEMINFO = 7

# struct inet_diag_req_v2: family, protocol, extensions, pad, states, and a socket id of zeroes.
REQUEST = struct.Struct("=BBBxI48x")
# The same, of one connection: its ports and addresses, no interface, and no cookie that it must have.
REQUEST_OF_ONE = struct.Struct("=BBBxI2s2s16s16sIQ")
NO_COOKIE = 2**64 - 1
# struct inet_diag_req, of before 3.3: family, two lengths, extensions, a socket id of zeroes, states, dbs. A dump by it
# has every family in one walk through the table (inet_diag_dump_compat), and that walk is what a dump costs.
REQUEST_OF_ALL = struct.Struct("=xxxB48xIxxxx")

# struct inet_diag_msg. The ports are in network order, two bytes each; the cookie is one 64-bit number.
MESSAGE = struct.Struct("=BBBB2s2s16s16sI8sIIIII")

# The beginning of a message: length, type, flags, and after the header the family, the state and the source port. The
# message that ends a dump is shorter than that.
STATE = struct.Struct("=IHH8xxBxx2s")
LENGTH = struct.Struct("=IH")

# The kernel fills at most 32 KiB for each recv (af_netlink.c, netlink_dump); older ones two pages.
RECEIVE_SIZE = 1 << 18
ATTEMPTS = 10


class Message(NamedTuple):
    """One socket as the kernel reports it (struct inet_diag_msg), ports and addresses in network order."""

    family: int
    state: int
    timer: int
    retransmits: int
    sport: bytes
    dport: bytes
    source: bytes
    destination: bytes
    interface: int
    cookie: bytes
    expires: int
    receive_queue: int
    send_queue: int
    uid: int
    inode: int


def extension(*attributes: int) -> int:
    """The request's bits that ask for optional attributes (INET_DIAG_INFO, ...)."""
    return sum(1 << (attribute - 1) for attribute in attributes)


def dump(host: Host, family: int, states: int, extensions: int, condition: bytes = b"") -> list[tuple[Message, bytes]]:
    """The TCP sockets of a host, each with its attributes undecoded (see harness.lab.netlink).

    `family` is AF_INET, AF_INET6 or AF_UNSPEC (both, in the order of the kernel's table), `states` a bit for each TCP
    state number. `condition` is what the kernel is to check of each (harness.observe.bytecode). A dump that the kernel
    marks as interrupted by a change is taken again. Raises Unsupported where the kernel has no inet_diag.
    """
    request = _request(family, states, extensions, condition)
    for _ in range(ATTEMPTS):
        found, consistent = _dump_once(host, request)
        if consistent:
            return found
    raise _unsteady(host)


def find(
    host: Host, family: int, local: tuple[bytes, bytes], remote: tuple[bytes, bytes], extensions: int
) -> tuple[Message, bytes] | None:
    """One connection by its ends, each an address and a port in network order; None if the kernel does not find it.

    The kernel looks it up as it does for a packet (inet_diag_find_one_icsk()), and may find a listener in its place.
    """
    (source, sport), (destination, dport) = local, remote
    asked = REQUEST_OF_ONE.pack(
        family, socket.IPPROTO_TCP, extensions, 0, sport, dport, source, destination, 0, NO_COOKIE
    )
    with _socket(host) as talking:
        talking.send(netlink.message(SOCK_DIAG_BY_FAMILY, netlink.NLM_F_REQUEST, 1, asked))
        answer = talking.recv(RECEIVE_SIZE)
    return next(_found(answer), None)


def tally(host: Host, family: int, states: int, *, port: int | None = None) -> Counter[int]:
    """How many TCP sockets of a host, or of one of its ports, are in each of these states: a dump, only counted."""
    return _survey(host, family, states, 0, b"" if port is None else port.to_bytes(2, "big"))[0]


def survey(host: Host, family: int, states: int, most: int) -> tuple[Counter[int], list[tuple[Message, bytes]]]:
    """How many TCP sockets of a host are in each of these states, and if they are no more than `most`, those sockets.

    Of more than that they are not taken apart. A dump costs the walk through the machine's whole table, however few
    sockets there are: some 1.6 million instructions in a machine of 3 GB.
    """
    counted, answers = _survey(host, family, states, most, b"")
    return counted, [found for answer in answers for found in _found(answer)]


def _survey(host: Host, family: int, states: int, most: int, port: bytes) -> tuple[Counter[int], list[bytes]]:
    """How many sockets are in each state, of all ports or of one, and the answers if they are no more than `most`."""
    request = _request(family, states, 0)
    for _ in range(ATTEMPTS):
        counted, answers, consistent = _survey_once(host, request, most, port)
        if consistent:
            return counted, answers
    raise _unsteady(host)


def _request(family: int, states: int, extensions: int, condition: bytes = b"") -> bytes:
    """The whole message that asks for a dump."""
    flags = netlink.NLM_F_REQUEST | netlink.NLM_F_DUMP
    checks = netlink.attribute(INET_DIAG_REQ_BYTECODE, condition) if condition else b""
    if family == socket.AF_UNSPEC:
        return netlink.message(TCPDIAG_GETSOCK, flags, 1, REQUEST_OF_ALL.pack(extensions, states) + checks)
    asked = REQUEST.pack(family, socket.IPPROTO_TCP, extensions, states)
    return netlink.message(SOCK_DIAG_BY_FAMILY, flags, 1, asked + checks)


def _survey_once(host: Host, request: bytes, most: int, port: bytes) -> tuple[Counter[int], list[bytes], bool]:
    counted: Counter[int] = Counter()
    answers: list[bytes] = []
    consistent = True

    def take(answer: bytes) -> bytes | None:
        nonlocal consistent
        states, steady, rest = _alike(answer, port)
        counted.update(states)
        consistent = consistent and steady
        end = None
        for kind, flags, body in netlink.messages(rest):
            consistent = consistent and not flags & netlink.NLM_F_DUMP_INTR
            if kind in THE_END:
                end = body
                break
            if not port or body[4:6] == port:
                counted[body[1]] += 1
        answers.append(answer)
        if counted.total() > most:
            answers.clear()
        return end

    _converse(host, request, take)
    return counted, answers, consistent


def _found(answer: bytes) -> Iterator[tuple[Message, bytes]]:
    """The sockets in what recv() returned."""
    for kind, _, body in netlink.messages(answer):
        if kind in THE_END:
            return
        yield Message._make(MESSAGE.unpack_from(body)), body[MESSAGE.size :]


def _alike(answer: bytes, port: bytes) -> tuple[list[int], bool, bytes]:
    """The states of those sockets at the begin of an answer whose messages are equally long, and the rest of it.

    Nearly always all are; then they need not be walked through one by one. With a port, the states of its sockets.
    """
    length, kind = LENGTH.unpack_from(answer)
    if length < STATE.size:
        return [], True, answer
    whole = len(answer) // length * length
    alike = list(struct.iter_unpack(f"{STATE.format}{length - STATE.size}x", answer[:whole]))
    if kind in (SOCK_DIAG_BY_FAMILY, TCPDIAG_GETSOCK) and all(one[0] == length and one[1] == kind for one in alike):
        states = [one[3] for one in alike if not port or one[4] == port]
        return states, not any(one[2] & netlink.NLM_F_DUMP_INTR for one in alike), answer[whole:]
    return [], True, answer


def _dump_once(host: Host, request: bytes) -> tuple[list[tuple[Message, bytes]], bool]:
    found: list[tuple[Message, bytes]] = []
    consistent = True

    def take(answer: bytes) -> bytes | None:
        nonlocal consistent
        for kind, flags, body in netlink.messages(answer):
            consistent = consistent and not flags & netlink.NLM_F_DUMP_INTR
            if kind in THE_END:
                return body
            found.append((Message._make(MESSAGE.unpack_from(body)), body[MESSAGE.size :]))
        return None

    _converse(host, request, take)
    return found, consistent


def _unsteady(host: Host) -> HarnessError:
    return HarnessError(f"{host.name}: the socket table changed during each of {ATTEMPTS} dumps of it")


def _converse(host: Host, request: bytes, take: Callable[[bytes], bytes | None]) -> None:
    """Send one dump request; hand over what each recv() returns until that had the body of the message that ends it."""
    end = None
    with _socket(host) as talking:
        talking.send(request)
        while end is None:
            end = take(talking.recv(RECEIVE_SIZE))
    _raise_error(end)


def _socket(host: Host) -> socket.socket:
    with host:
        try:
            return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
        except OSError as error:
            raise _unsupported(error.errno or 0) from None


def _raise_error(payload: bytes) -> None:
    """The status that ends a dump: 0, or a negative errno."""
    status = netlink.ERRNO.unpack_from(payload)[0] if len(payload) >= netlink.ERRNO.size else 0
    if -status in (errno.ENOENT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT):
        raise _unsupported(-status)
    if status:
        raise HarnessError(f"inet_diag: the kernel refused to dump its sockets: {os.strerror(-status)}")


def _unsupported(number: int) -> Unsupported:
    return Unsupported(
        f"inet_diag: this kernel cannot list TCP sockets ({os.strerror(number)}): "
        "it needs CONFIG_INET_TCP_DIAG, as a module tcp_diag"
    )
