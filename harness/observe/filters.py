"""The filter language of ss(8), compiled to a test of one socket."""

from __future__ import annotations

import operator
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from harness.errors import BadInput
from harness.observe.diag import Message
from harness.observe.states import NAMES, bits

if TYPE_CHECKING:
    from lark import Lark, Token, Tree

# As in ss (misc/ssfilter.y): `and` may be left out, and there is no precedence but from left to right.
GRAMMAR = r"""
start: selection* expression?
selection: INCLUDE STATE | EXCLUDE STATE
?expression: term | disjunction | conjunction
disjunction: expression _OR term
conjunction: expression _AND? term
?term: negation | "(" expression ")" | port | host | device
negation: _NOT term
port: PORT_SIDE COMPARISON? PORT
host: HOST_SIDE EQUALITY? HOST
device: _DEV EQUALITY? DEVICE

INCLUDE: /state\b/
EXCLUDE: /excl(ude)?\b/
STATE: /[a-z0-9-]+/i
_OR: /\|\|?|or\b/
_AND: /&&?|and\b/
_NOT: /!|not\b/
_DEV: /dev\b/
PORT_SIDE: /[sd]port\b/
HOST_SIDE: /(src|dst)\b/
COMPARISON.2: />=|<=|!=|==?|>|<|(geq?|leq?|neq?|eq|gt|lt)\b/
EQUALITY.2: /!=|==?|(neq?|eq)\b/
PORT: /:?[a-z0-9][a-z0-9_-]*/i
HOST: /[^\s()'"!=<>&|\\]+/
DEVICE: /[^\s()'"!=<>&|\\]+/
%ignore /[\s'"\\]+/
"""

COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    **dict.fromkeys(("=", "==", "eq"), operator.eq),
    **dict.fromkeys(("!=", "ne", "neq"), operator.ne),
    **dict.fromkeys((">=", "ge", "geq"), operator.ge),
    **dict.fromkeys(("<=", "le", "leq"), operator.le),
    **dict.fromkeys((">", "gt"), operator.gt),
    **dict.fromkeys(("<", "lt"), operator.lt),
}
MAPPED = bytes(10) + b"\xff\xff"

Condition = Callable[[Message], bool]


@dataclass(frozen=True)
class Filter:
    """What a filter asks for: a bit for each TCP state number, and a condition on the rest (None: no more)."""

    states: int
    condition: Condition | None = None


def compile_filter(text: str, index_of: Callable[[str], int] = socket.if_nametoindex) -> Filter:
    """Compile a filter such as `state time-wait sport = :443` or `dst 10.0.0.0/24 and dport >= :1000`.

    As in ss(8): `state` and `exclude` come first and take a state or a group (all, connected, synchronized,
    bucket, big); then conditions on sport, dport, src, dst and dev with not, and, or and parentheses. As in
    ss, `and` and `or` bind alike, from left to right: `A or B and C` is `( A or B ) and C`. Shell quoting is
    accepted and ignored. Without `state`, all states. `index_of` gives the index of an interface by name.
    Raises BadInput with the position of what is wrong.
    """
    tree = _parse(text)
    compiler = _Compiler(text, index_of)
    parts = [part for part in tree.children if not isinstance(part, str)]
    states = compiler.states([part for part in parts if part.data == "selection"])
    expressions = [part for part in parts if part.data != "selection"]
    return Filter(states, compiler.compile(expressions[0]) if expressions else None)


@lru_cache(maxsize=1)
def _grammar() -> Lark:
    from lark import Lark

    return Lark(GRAMMAR, parser="lalr")


@lru_cache(maxsize=256)
def _parse(text: str) -> Tree[Token]:
    from lark.exceptions import UnexpectedEOF, UnexpectedInput

    try:
        return _grammar().parse(text)
    except UnexpectedInput as error:
        position = getattr(error, "pos_in_stream", None)
        at_end = isinstance(error, UnexpectedEOF) or position is None or position >= len(text.rstrip())
        token = getattr(error, "token", None)
        if at_end or (token is not None and token.type == "$END"):
            raise bad_filter(text, len(text), "something is missing at the end") from None
        raise bad_filter(text, position or 0, "not understood") from None


def bad_filter(text: str, position: int, what: str) -> BadInput:
    """An error that shows the place (0 is the first character)."""
    return BadInput(
        f"socket filter: {what}, at character {position + 1}:\n"
        f"  {text}\n"
        f"  {' ' * position}^\n"
        "It takes what ss(8) takes: `state NAME`, `exclude NAME`, then sport, dport, src, dst and dev, "
        "with and, or, not and parentheses."
    )


class _Compiler:
    """Turns the parts of one parsed filter into conditions."""

    def __init__(self, text: str, index_of: Callable[[str], int]) -> None:
        self.text = text
        self.index_of = index_of

    def states(self, selections: list[Tree[Token]]) -> int:
        chosen: int | None = None
        for selection in selections:
            keyword, name = (_token(child) for child in selection.children)
            named = bits(name)
            if not named:
                raise self.bad(name, f"no TCP state {str(name)!r}; there are {', '.join(NAMES)}")
            if keyword.type == "INCLUDE":
                chosen = (chosen or 0) | named
            else:
                chosen = (bits("all") if chosen is None else chosen) & ~named
        return bits("all") if chosen is None else chosen

    def compile(self, tree: Tree[Token]) -> Condition:
        parts = [self.compile(child) for child in tree.children if not isinstance(child, str)]
        if tree.data == "disjunction":
            return lambda message: parts[0](message) or parts[1](message)
        if tree.data == "conjunction":
            return lambda message: parts[0](message) and parts[1](message)
        if tree.data == "negation":
            return lambda message: not parts[0](message)
        tokens = [_token(child) for child in tree.children]
        return {"port": self.port, "host": self.host, "device": self.device}[tree.data](tokens)

    def port(self, tokens: list[Token]) -> Condition:
        side, *comparison, value = tokens
        compare = COMPARISONS[comparison[0] if comparison else "="]
        wanted = self.port_number(value, str(value).removeprefix(":"))
        if side == "sport":
            return lambda message: compare(int.from_bytes(message.sport, "big"), wanted)
        return lambda message: compare(int.from_bytes(message.dport, "big"), wanted)

    def port_number(self, token: Token, text: str) -> int:
        if text.isdecimal():
            if int(text) > 0xFFFF:
                raise self.bad(token, "a port is at most 65535")
            return int(text)
        try:
            return socket.getservbyname(text, "tcp")
        except OSError:
            raise self.bad(token, f"/etc/services has no TCP service {text!r}") from None

    def host(self, tokens: list[Token]) -> Condition:
        side, *comparison, value = tokens
        address, port = self.split(value)
        conditions: list[Condition] = []
        if address != "*":
            conditions.append(_within(side == "src", *self.network(value, address)))
        if port != "*":
            wanted = self.port_number(value, port).to_bytes(2, "big")
            conditions.append(lambda message: (message.sport if side == "src" else message.dport) == wanted)
        if comparison and COMPARISONS[comparison[0]] is operator.ne:
            return lambda message: not all(condition(message) for condition in conditions)
        return lambda message: all(condition(message) for condition in conditions)

    def split(self, token: Token) -> tuple[str, str]:
        """ADDRESS[/PREFIX][:PORT]; an IPv6 address that has a port stands in brackets."""
        bracketed = re.fullmatch(r"\[([^\]]*)\](/\d+)?(?::(.+))?", token)
        if bracketed:
            return bracketed[1] + (bracketed[2] or ""), bracketed[3] or "*"
        if token.count(":") > 1:
            return str(token), "*"
        address, _, port = token.partition(":")
        return address or "*", port or "*"

    def network(self, token: Token, text: str) -> tuple[bytes, int]:
        """The address, and the number of leading bits that count."""
        address, slash, prefix = text.partition("/")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            packed = socket.inet_pton(family, address)
        except OSError:
            raise self.bad(token, f"{str(address)!r} is not an IPv4 or IPv6 address") from None
        width = len(packed) * 8
        length = int(prefix) if prefix.isdecimal() else width
        if length > width or (slash and not prefix.isdecimal()):
            raise self.bad(token, f"a prefix length here is a number up to {width}")
        return packed, length

    def device(self, tokens: list[Token]) -> Condition:
        *comparison, name = tokens
        compare = COMPARISONS[comparison[0] if comparison else "="]
        try:
            index = int(name) if name.isdecimal() else self.index_of(str(name))
        except OSError:
            raise self.bad(name, f"no interface {str(name)!r} here") from None
        return lambda message: compare(message.interface, index)

    def bad(self, token: Token, what: str) -> BadInput:
        return bad_filter(self.text, token.start_pos or 0, what)


def _token(child: Token | Tree[Token]) -> Token:
    assert isinstance(child, str), child
    return child


def _within(source: bool, network: bytes, length: int) -> Condition:
    """Whether an address is in a network; an IPv4 network holds the IPv4-mapped addresses of IPv6 sockets, too."""
    shift = len(network) * 8 - length
    wanted = int.from_bytes(network, "big") >> shift

    def within(message: Message) -> bool:
        address = message.source if source else message.destination
        if message.family == socket.AF_INET:
            address = address[:4]
        elif len(network) == 4 and address.startswith(MAPPED):
            address = address[12:]
        return len(address) == len(network) and int.from_bytes(address, "big") >> shift == wanted

    return within
