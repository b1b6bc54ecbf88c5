"""Other addresses and names for those of the machine: the same for the same, and of the same kind."""

import hashlib
import socket
import struct
from typing import Callable

MAPPED = b"\0" * 10 + b"\xff\xff"


class Pseudonyms:
    """With one key an address has the same pseudonym on every machine and at any time, but for rare collisions.

    Loopback, "any" and multicast addresses stay what they are. A private address becomes one of 10.0.0.0/8, a public
    one of 240.0.0.0/4, which nobody has; of IPv6 they are of fd00::/8 and 2001:db8::/32. Link-local ones stay so.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.given = {}  # type: dict[str, str]
        self._taken = set()  # type: set[str]

    def address(self, packed: bytes) -> str:
        """The pseudonym of an address of 4 or 16 bytes."""
        if len(packed) == 16 and packed.startswith(MAPPED):
            packed = packed[12:]
        real = socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
        prefix = _of_kind(packed)
        return real if prefix is None else self._give(real, lambda turn: self._address(packed, prefix, turn))

    def text(self, address: str) -> str:
        """The pseudonym of an address that is written out; of anything else, that of a name."""
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                return self.address(socket.inet_pton(family, address))
            except (OSError, ValueError):
                continue
        return self.name(address, "name")

    def name(self, name: str, kind: str) -> str:
        """The pseudonym of a name: its kind and six hexadecimal digits."""
        return self._give(name, lambda turn: "{}-{}".format(kind, self._digest(name.encode(), turn)[:3].hex()))

    def remember(self, real: str, pseudonym: str) -> None:
        """What another process with the same key has given."""
        self.given.setdefault(real, pseudonym)
        self._taken.add(pseudonym)

    def _give(self, real: str, candidate: "Callable[[int], str]") -> str:
        """The one it has, or the first candidate that nobody has."""
        if real not in self.given:
            turn = 0
            while candidate(turn) in self._taken:
                turn += 1
            self.given[real] = candidate(turn)
            self._taken.add(self.given[real])
        return self.given[real]

    def _address(self, packed: bytes, prefix: "tuple[bytes, int]", turn: int) -> str:
        start, bits = prefix
        size = len(packed)
        mask = (1 << (size * 8 - bits)) - 1
        drawn = int.from_bytes(self._digest(packed, turn)[:size], "big") & mask
        whole = int.from_bytes(start.ljust(size, b"\0"), "big") & ~mask | drawn
        return socket.inet_ntop(socket.AF_INET if size == 4 else socket.AF_INET6, whole.to_bytes(size, "big"))

    def _digest(self, thing: bytes, turn: int) -> bytes:
        return hashlib.blake2s(thing, key=self._key, salt=struct.pack("<Q", turn)).digest()


def _of_kind(packed: bytes) -> "tuple[bytes, int] | None":
    """The first bytes of the pseudonyms of this address's kind, and how many bits of them count; None: it stays."""
    if len(packed) == 4:
        return _of_kind4(packed)
    if packed[:15] == b"\0" * 15 or packed[0] == 0xFF:
        return None
    if packed[0] == 0xFE and packed[1] & 0xC0 == 0x80:
        return b"\xfe\x80" + b"\0" * 6, 64
    return (b"\xfd", 8) if packed[0] & 0xFE == 0xFC else (b"\x20\x01\x0d\xb8", 32)


def _of_kind4(packed: bytes) -> "tuple[bytes, int] | None":
    first, second = packed[0], packed[1]
    if first in (0, 127) or 224 <= first < 240 or packed == b"\xff" * 4:
        return None
    if first == 10 or (first == 172 and second & 0xF0 == 16) or (first, second) == (192, 168):
        return b"\x0a", 8
    if (first, second) == (169, 254):
        return packed[:2], 16
    return (b"\x64\x40", 10) if first == 100 and second & 0xC0 == 64 else (b"\xf0", 4)
