"""Packet filter rules of a host, spoken to nf_tables over netlink: no program is needed for them.

Only what labs use: translating sources, and matching header bytes and the states of connections, to count, drop or
reject. Expressions are those of nf_tables(8)'s virtual machine (net/netfilter/nft_payload.c, nft_cmp.c, nft_numgen.c,
nft_masq.c, nft_ct.c, nft_reject.c), numbers those of include/uapi/linux/netfilter/nf_tables.h and nfnetlink.h.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import HarnessError, Unsupported
from harness.lab import netlink

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.lab.netns import Namespace

FAMILIES = {"inet": 1, "ip": 2, "netdev": 5, "ip6": 10}
# The hook of netdev has a number of its own: NF_NETDEV_INGRESS.
HOOKS = {"ingress": 0, "prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}
NETWORK_HEADER, TRANSPORT_HEADER = 1, 2
# include/uapi/linux/netfilter.h
NF_DROP, NF_ACCEPT = 0, 1
META_PROTOCOL, META_L4PROTO, META_OIFNAME, META_NFPROTO = 1, 16, 7, 15
CMP_EQ, CMP_NEQ, CMP_LT, CMP_LTE, CMP_GTE = 0, 1, 2, 3, 5
# NFT_CT_STATE, and NF_CT_STATE_BIT() of each state (include/uapi/linux/netfilter/nf_conntrack_common.h).
CT_STATE = 0
STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
# enum nft_reject_types, nft_reject_inet_code.
REJECT_TCP_RESET, REJECT_ICMPX, PORT_UNREACHABLE = 1, 2, 1
NAT_PREROUTING_PRIORITY, NAT_POSTROUTING_PRIORITY, RAW_PRIORITY = -100, 100, -300

# Longer than any lab lasts, in seconds; in nanoseconds it fits into 64 bits.
AGES = 10**9

NETLINK_NETFILTER = 12
SUBSYSTEM = 10
BATCH_BEGIN, BATCH_END = 0x10, 0x11
NEW_TABLE, DELETE_TABLE, NEW_CHAIN, NEW_RULE, GET_RULE, DELETE_RULE = (
    SUBSYSTEM << 8 | message for message in (0, 2, 3, 6, 7, 8)
)
CREATE = netlink.NLM_F_CREATE | netlink.NLM_F_APPEND
# NFTA_TABLE_*, NFTA_CHAIN_*, NFTA_HOOK_*, NFTA_RULE_*
TABLE_NAME = 1
CHAIN_TABLE, CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY, CHAIN_TYPE = 1, 3, 4, 5, 7
HOOK_NUMBER, HOOK_PRIORITY, HOOK_DEVICE = 1, 2, 3
RULE_TABLE, RULE_CHAIN, RULE_HANDLE, RULE_EXPRESSIONS, RULE_USER_DATA = 1, 2, 3, 4, 7
LIST_ELEMENT, EXPRESSION_NAME, EXPRESSION_DATA = 1, 1, 2
DATA_VALUE, DATA_VERDICT, VERDICT_CODE = 1, 2, 1
COUNTER_PACKETS = 2
# Some registers; 0 is that of the verdict.
REGISTER, REGISTER_OF_PORT, REGISTER_OF_LAST_PORT, VERDICT = 1, 2, 3, 0
# enum nft_nat_types
SNAT = 0
RECEIVE_SIZE = 1 << 17
# struct nfgenmsg: family, version, and in a batch the subsystem.
GENERAL = struct.Struct(">BBH")

# An expression as the kernel reads it: a list element with its name and its attributes.
Expression = bytes


@dataclass(frozen=True)
class Match:
    """Bytes of a header that must compare with a value, after a mask if one is given."""

    base: int
    offset: int
    value: bytes
    mask: bytes | None = None
    compare: int = CMP_EQ

    def expressions(self) -> list[Expression]:
        """The expressions: load, mask, compare."""
        size = len(self.value)
        chosen = [load(self.base, self.offset, size)]
        if self.mask is not None:
            masks = _data(4, self.mask) + _data(5, bytes(size))
            chosen.append(_expression("bitwise", _numbers(REGISTER, REGISTER, size) + masks))
        chosen.append(_compare(self.compare, self.value))
        return chosen


@dataclass(frozen=True)
class Chain:
    """A base chain at a netfilter hook ("prerouting", "input", "output", "postrouting"), with its rules.

    "ingress" is where frames arrive at the interface `device`, in a table of the family "netdev".
    """

    hook: str
    priority: int
    rules: tuple[tuple[Expression, ...], ...] = ()
    kind: str = "filter"
    device: str | None = None


def _expression(name: str, attributes: bytes = b"") -> Expression:
    return netlink.nested(
        LIST_ELEMENT, netlink.text(EXPRESSION_NAME, name), netlink.nested(EXPRESSION_DATA, attributes)
    )


def _numbers(*values: int) -> bytes:
    """Attributes 1, 2, ... of an expression, each a number."""
    return b"".join(netlink.number(kind, value) for kind, value in enumerate(values, start=1))


def _data(kind: int, value: bytes) -> bytes:
    return netlink.nested(kind, netlink.attribute(DATA_VALUE, value))


def load(base: int, offset: int, size: int) -> Expression:
    """Read bytes of a packet; the rule does not match where the packet is shorter."""
    return _expression("payload", _numbers(REGISTER, base, offset, size))


def _compare(operation: int, value: bytes) -> Expression:
    return _expression("cmp", _numbers(REGISTER, operation) + _data(3, value))


def _meta(key: int) -> Expression:
    return _expression("meta", _numbers(REGISTER, key))


def protocol(number: int) -> list[Expression]:
    """Match the transport protocol (IPPROTO_*)."""
    return [_meta(META_L4PROTO), _compare(CMP_EQ, bytes([number]))]


def ethertype(number: int) -> list[Expression]:
    """Match what a frame carries (ETH_P_*)."""
    return [_meta(META_PROTOCOL), _compare(CMP_EQ, number.to_bytes(2, "big"))]


def version(family: int) -> list[Expression]:
    """Match the address family (AF_INET or AF_INET6)."""
    number = FAMILIES["ip" if family == socket.AF_INET else "ip6"]
    return [_meta(META_NFPROTO), _compare(CMP_EQ, bytes([number]))]


def leaving_by(interface: str) -> list[Expression]:
    """Match packets that leave by the interface of this name."""
    return [_meta(META_OIFNAME), _compare(CMP_EQ, interface.encode().ljust(16, b"\0"))]


def state(*names: str) -> list[Expression]:
    """Match packets of connections in one of these states (STATES), as connection tracking sees them."""
    bits = sum(STATES[name] for name in names).to_bytes(4, sys.byteorder)
    return [
        _expression("ct", _numbers(REGISTER, CT_STATE)),
        _expression("bitwise", _numbers(REGISTER, REGISTER, 4) + _data(4, bits) + _data(5, bytes(4))),
        _compare(CMP_NEQ, bytes(4)),
    ]


def occurrence(first: int, count: int | None) -> list[Expression]:
    """Match the `first`-th packet (from 1) that gets here, and the next ones up to `count` in all; None: for ever."""
    # Counting up from 0 (type 0), modulo what it never reaches.
    chosen = [_expression("numgen", _numbers(REGISTER, 2**31 - 1, 0, 0))]
    # numgen writes a number of the machine's byte order; operation 1 (HTON) makes it comparable as bytes.
    chosen.append(_expression("byteorder", _numbers(REGISTER, REGISTER, 1, 4, 4)))
    chosen.append(_compare(CMP_GTE, (first - 1).to_bytes(4, "big")))
    if count is not None:
        chosen.append(_compare(CMP_LT, (first - 1 + count).to_bytes(4, "big")))
    return chosen


def at_most(packets: int) -> list[Expression]:
    """Match the first so many packets that get here: on kernels before 4.9, which have no numgen, and limits no burst.

    A rate of as many in AGES seconds (net/netfilter/nft_limit.c).
    """
    return [_expression("limit", netlink.number(1, packets, 8) + netlink.number(2, AGES, 8))]


def accept() -> list[Expression]:
    """Let the packet pass."""
    verdict = netlink.nested(DATA_VERDICT, netlink.number(VERDICT_CODE, NF_ACCEPT))
    return [_expression("immediate", _numbers(VERDICT) + netlink.nested(2, verdict))]


def counter() -> list[Expression]:
    """Count the packets that get here."""
    return [_expression("counter", netlink.number(1, 0, 8) + netlink.number(COUNTER_PACKETS, 0, 8))]


def drop() -> list[Expression]:
    """Drop the packet."""
    verdict = netlink.nested(DATA_VERDICT, netlink.number(VERDICT_CODE, NF_DROP))
    return [_expression("immediate", _numbers(VERDICT) + netlink.nested(2, verdict))]


def reject_with_reset() -> list[Expression]:
    """Drop a TCP segment, and answer with RST."""
    return [_expression("reject", netlink.number(1, REJECT_TCP_RESET))]


def reject() -> list[Expression]:
    """Drop a packet, and answer that the port cannot be reached (ICMP, ICMPv6)."""
    return [_expression("reject", netlink.number(1, REJECT_ICMPX) + netlink.number(2, PORT_UNREACHABLE, 1))]


def untracked() -> list[Expression]:
    """Let connection tracking pass the packet by; it needs a chain before that, of RAW_PRIORITY."""
    return [_expression("notrack")]


def masquerade() -> list[Expression]:
    """Give the packet the address of the interface that it leaves by."""
    return [_expression("masq")]


def leave_as(family: int, address: str, ports: tuple[int, int] | None = None) -> list[Expression]:
    """Give the packet this source, and one of these ports, the first to the last.

    Ports need a match of the transport protocol before it.
    """
    addressed = [_immediate(REGISTER, socket.inet_pton(family, address))]
    if ports is None:
        return [*addressed, _expression("nat", _numbers(SNAT, family, REGISTER, REGISTER))]
    first, last = (port.to_bytes(2, "big") for port in ports)
    return [
        *addressed,
        _immediate(REGISTER_OF_PORT, first),
        _immediate(REGISTER_OF_LAST_PORT, last),
        _expression("nat", _numbers(SNAT, family, REGISTER, REGISTER, REGISTER_OF_PORT, REGISTER_OF_LAST_PORT)),
    ]


def _immediate(register: int, value: bytes) -> Expression:
    return _expression("immediate", _numbers(register) + _data(2, value))


class Table:
    """One table of a host's packet filter, with its chains by name; made and removed as a whole.

    `anew` takes the place of one of the same name, if there is one, in the same moment.
    """

    def __init__(
        self,
        namespace: Namespace,
        name: str,
        chains: dict[str, Chain],
        family: str = "inet",
        *,
        anew: bool = False,
    ) -> None:
        self._namespace = namespace
        self._name = name
        self._family = FAMILIES[family]
        batch = [(NEW_TABLE, CREATE, netlink.text(TABLE_NAME, name))]
        if anew:
            batch += [(DELETE_TABLE, 0, netlink.text(TABLE_NAME, name)), batch[0]]
        for chain, wanted in chains.items():
            batch.append((NEW_CHAIN, CREATE, _chain(name, chain, wanted)))
            batch += [(NEW_RULE, CREATE, _rule(name, chain, rule)) for rule in wanted.rules]
        self._change(batch)

    def counts(self) -> list[int]:
        """Packets counted by each counter of the table's rules, in the order of the rules."""
        return [count for rule in self._rules() for count in _counted(rule.get(RULE_EXPRESSIONS, b""))]

    def insert(self, chain: str, mark: str, rules: Sequence[Sequence[Expression]]) -> None:
        """Put rules, in this order, before those that a chain has; `mark` is the comment by which they are known."""
        marked = netlink.attribute(RULE_USER_DATA, _comment(mark))
        self._change(
            [(NEW_RULE, netlink.NLM_F_CREATE, _rule(self._name, chain, rule) + marked) for rule in reversed(rules)]
        )

    def counted(self, mark: str) -> int:
        """Packets counted by the rules that were inserted with this mark."""
        return sum(sum(_counted(rule.get(RULE_EXPRESSIONS, b""))) for rule in self._marked(mark))

    def take_out(self, mark: str) -> None:
        """Take the rules with this mark out again."""
        gone = [
            netlink.attribute(kind, rule[kind])
            for rule in self._marked(mark)
            for kind in (RULE_TABLE, RULE_CHAIN, RULE_HANDLE)
        ]
        self._change([(DELETE_RULE, 0, b"".join(gone[n : n + 3])) for n in range(0, len(gone), 3)])

    def _marked(self, mark: str) -> list[dict[int, bytes]]:
        return [rule for rule in self._rules() if rule.get(RULE_USER_DATA) == _comment(mark)]

    def _rules(self) -> list[dict[int, bytes]]:
        """The table's rules, in their order, as attributes."""
        wanted = netlink.text(RULE_TABLE, self._name)
        request = netlink.message(
            GET_RULE, netlink.NLM_F_REQUEST | netlink.NLM_F_DUMP, 1, GENERAL.pack(self._family, 0, 0) + wanted
        )
        with self._socket() as talking:
            talking.send(request)
            return list(self._answered(talking))

    def _answered(self, talking: socket.socket) -> Iterator[dict[int, bytes]]:
        """The rules in the kernel's answer. Old kernels give all tables' rules, whichever was asked for."""
        ours = self._name.encode() + b"\0"
        while True:
            for kind, _, body in netlink.messages(talking.recv(RECEIVE_SIZE)):
                if kind == netlink.NLMSG_ERROR:
                    raise self._refused(body)
                if kind == netlink.NLMSG_DONE:
                    return
                rule = netlink.attributes(body[GENERAL.size :])
                if rule[RULE_TABLE] == ours:
                    yield rule

    def remove(self) -> None:
        """Take the table away with all in it."""
        self._change([(DELETE_TABLE, 0, netlink.text(TABLE_NAME, self._name))])

    def _change(self, wanted: Sequence[tuple[int, int, bytes]]) -> None:
        """One transaction: all or nothing. The kernel has answered each message when send() returns."""
        edge = GENERAL.pack(0, 0, SUBSYSTEM)
        general = GENERAL.pack(self._family, 0, 0)
        flags = netlink.NLM_F_REQUEST | netlink.NLM_F_ACK
        batch = [netlink.message(BATCH_BEGIN, netlink.NLM_F_REQUEST, 0, edge)]
        batch += [
            netlink.message(kind, flags | more, number, general + body)
            for number, (kind, more, body) in enumerate(wanted, start=1)
        ]
        batch.append(netlink.message(BATCH_END, netlink.NLM_F_REQUEST, 0, edge))
        with self._socket() as talking:
            talking.send(b"".join(batch))
            answered = 0
            while answered < len(wanted):
                for _, _, body in netlink.messages(talking.recv(RECEIVE_SIZE)):
                    if netlink.ERRNO.unpack_from(body)[0]:
                        raise self._refused(body)
                    answered += 1

    def _refused(self, answer: bytes) -> HarnessError:
        number = -netlink.ERRNO.unpack_from(answer)[0]
        if number in (errno.EOPNOTSUPP, errno.ENOENT, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
            return Unsupported(
                f"the running kernel's nf_tables cannot do what table {self._name!r} needs ({os.strerror(number)}): "
                "it wants CONFIG_NF_TABLES, NF_TABLES_INET, NFT_NUMGEN, NFT_MASQ, NF_NAT, NFT_CT, NFT_REJECT"
            )
        return HarnessError(f"nf_tables refused table {self._name!r}: {os.strerror(number)}")

    def _socket(self) -> socket.socket:
        with self._namespace:
            try:
                return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
            except OSError as error:
                raise Unsupported(
                    f"this kernel has no packet filter to talk to ({error.strerror}): it needs CONFIG_NETFILTER_NETLINK"
                ) from None


def outlive_their_namespace() -> bool:
    """Whether the hooks of tables stay when their namespace has ended, as they do before Linux 4.5.

    net/netfilter/nf_tables_inet.c, nf_tables_inet_exit_net(). Before 4.3 hooks are one list for all namespaces, and the
    NAT chain of one that is gone comes first: nothing was translated any more.
    """
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return release is not None and (int(release[1]), int(release[2])) < (4, 5)


def remove_all(namespace: Namespace) -> None:
    """Take all tables of a namespace away."""
    _All(namespace).remove()


class _All(Table):
    """All tables of a namespace, of every family: a message that names none (nf_tables_deltable())."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace, self._name, self._family = namespace, "", 0

    def remove(self) -> None:
        """Take them away."""
        self._change([(DELETE_TABLE, 0, b"")])


def _chain(table: str, name: str, chain: Chain) -> bytes:
    hook = netlink.nested(
        CHAIN_HOOK,
        netlink.number(HOOK_NUMBER, HOOKS[chain.hook]),
        netlink.number(HOOK_PRIORITY, chain.priority),
        *([] if chain.device is None else [netlink.text(HOOK_DEVICE, chain.device)]),
    )
    names = netlink.text(CHAIN_TABLE, table) + netlink.text(CHAIN_NAME, name) + hook
    return names + netlink.number(CHAIN_POLICY, NF_ACCEPT) + netlink.text(CHAIN_TYPE, chain.kind)


def _rule(table: str, chain: str, expressions: Sequence[Expression]) -> bytes:
    names = netlink.text(RULE_TABLE, table) + netlink.text(RULE_CHAIN, chain)
    return names + netlink.nested(RULE_EXPRESSIONS, *expressions)


def _comment(text: str) -> bytes:
    """User data of a rule, as nft(8) shows it: type, length and text of a comment (NFTNL_UDATA_RULE_COMMENT)."""
    data = text.encode() + b"\0"
    return bytes([0, len(data)]) + data


def _counted(expressions: bytes) -> Iterator[int]:
    for _, element in netlink.walk(expressions):
        expression = netlink.attributes(element)
        if expression[EXPRESSION_NAME] == b"counter\0":
            yield int.from_bytes(netlink.attributes(expression[EXPRESSION_DATA])[COUNTER_PACKETS], "big")
