"""Packet filter rules of a host, spoken to nf_tables over netlink: no program is needed for them.

Only what labs use: masquerading, and matching header bytes to count, drop or rewrite nothing else. Expressions are
those of nf_tables(8)'s virtual machine (net/netfilter/nft_payload.c, nft_cmp.c, nft_numgen.c, nft_masq.c).
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.lab.netns import Namespace

FAMILIES = {"inet": 1, "ip": 2, "ip6": 10}
NETWORK_HEADER, TRANSPORT_HEADER = 1, 2
# include/uapi/linux/netfilter.h
NF_DROP = 0
META_L4PROTO, META_OIFNAME, META_NFPROTO = 16, 7, 15
CMP_EQ, CMP_NEQ, CMP_LT, CMP_LTE, CMP_GT, CMP_GTE = range(6)
NAT_PREROUTING_PRIORITY, NAT_POSTROUTING_PRIORITY, RAW_PRIORITY = -100, 100, -300

Expression = dict[str, Any]


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
        made = [_expression("payload", dreg=1, base=self.base, offset=self.offset, len=size)]
        if self.mask is not None:
            made.append(_expression("bitwise", sreg=1, dreg=1, len=size, mask=_data(self.mask), xor=_data(bytes(size))))
        made.append(_compare(self.compare, self.value))
        return made


def _expression(name: str, **fields: Any) -> Expression:
    prefix = "NG" if name == "numgen" else name.upper()
    attributes = [(f"NFTA_{prefix}_{key.upper()}", value) for key, value in fields.items()]
    return {"attrs": [("NFTA_EXPR_NAME", name), ("NFTA_EXPR_DATA", {"attrs": attributes})]}


def _data(value: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", value)]}


def _compare(operation: int, value: bytes) -> Expression:
    return _expression("cmp", sreg=1, op=operation, data=_data(value))


def protocol(number: int) -> list[Expression]:
    """Match the transport protocol (IPPROTO_*)."""
    return [_expression("meta", key=META_L4PROTO, dreg=1), _compare(CMP_EQ, bytes([number]))]


def version(family: int) -> list[Expression]:
    """Match the address family (AF_INET or AF_INET6)."""
    number = FAMILIES["ip" if family == socket.AF_INET else "ip6"]
    return [_expression("meta", key=META_NFPROTO, dreg=1), _compare(CMP_EQ, bytes([number]))]


def leaving_by(interface: str) -> list[Expression]:
    """Match packets that leave by the interface of this name."""
    return [_expression("meta", key=META_OIFNAME, dreg=1), _compare(CMP_EQ, interface.encode().ljust(16, b"\0"))]


def occurrence(first: int, count: int | None) -> list[Expression]:
    """Match the `first`-th packet (from 1) that gets here, and the next ones up to `count` in all; None: for ever."""
    chosen = [_expression("numgen", dreg=1, modulus=2**31 - 1, type=0, offset=0)]
    # numgen writes a number of the machine's byte order; byteorder 1 (HTON) makes it comparable as bytes.
    chosen.append(_expression("byteorder", sreg=1, dreg=1, op=1, len=4, size=4))
    chosen.append(_compare(CMP_GTE, (first - 1).to_bytes(4, "big")))
    if count is not None:
        chosen.append(_compare(CMP_LT, (first - 1 + count).to_bytes(4, "big")))
    return chosen


def counter() -> list[Expression]:
    """Count the packets that get here."""
    return [_expression("counter", bytes=0, packets=0)]


def drop() -> list[Expression]:
    """Drop the packet."""
    verdict = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": [("NFTA_VERDICT_CODE", NF_DROP)]})]}
    return [_expression("immediate", dreg=0, data=verdict)]


def masquerade() -> list[Expression]:
    """Give the packet the address of the interface that it leaves by."""
    return [_expression("masq")]


class Table:
    """One table of a host's packet filter, with its chains; lifted as a whole."""

    def __init__(self, namespace: Namespace, name: str, family: str = "inet") -> None:
        self._namespace = namespace
        self._name = name
        self._family = family
        self._call("table", "add", name=name)

    def chain(self, name: str, hook: str, priority: int, kind: str = "filter") -> None:
        """Add a base chain at a netfilter hook ("prerouting", "input", "output", "postrouting")."""
        self._call("chain", "add", table=self._name, name=name, hook=hook, type=kind, priority=priority, policy=1)

    def rule(self, chain: str, expressions: Sequence[Expression]) -> None:
        """Append a rule made of expressions."""
        self._call("rule", "add", table=self._name, chain=chain, expressions=tuple([e] for e in expressions))

    def counts(self) -> list[int]:
        """Packets counted by each counter of the table's rules, in the order of the rules."""
        counted: list[int] = []
        for message in self._call("rules_of_all_tables", "dump"):
            if message.get_attr("NFTA_RULE_TABLE") != self._name:
                continue
            counted += [
                int(expression.get_attr("NFTA_EXPR_DATA").get_attr("NFTA_COUNTER_PACKETS"))
                for expression in message.get_attr("NFTA_RULE_EXPRESSIONS") or []
                if expression.get_attr("NFTA_EXPR_NAME") == "counter"
            ]
        return counted

    def remove(self) -> None:
        """Take the table away with all in it."""
        self._call("table", "del", name=self._name)

    def _call(self, method: str, command: str, **arguments: Any) -> Any:
        from pyroute2.netlink.exceptions import NetlinkError
        from pyroute2.nftables.main import NFTables

        with self._namespace:
            try:
                filters = NFTables(nfgen_family=FAMILIES[self._family])
                try:
                    if command == "dump":
                        return list(filters.get_rules())
                    return getattr(filters, method)(command, **arguments)
                finally:
                    filters.close()
            except NetlinkError as error:
                if error.code in (errno.EOPNOTSUPP, errno.ENOENT, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
                    raise Unsupported(
                        f"the running kernel has no nf_tables {method} as asked for ({arguments}): {error}"
                    ) from None
                raise
