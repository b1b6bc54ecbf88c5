"""scapy's layers, imported once and without a trace: scapy keeps caches and settings in the user's home otherwise."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether


class Layers(NamedTuple):
    """The classes that frames are made of and parsed into."""

    ether: type[Ether]
    ip: type[IP]
    ipv6: type[IPv6]
    tcp: type[TCP]


@cache
def layers() -> Layers:
    """Ethernet, IPv4, IPv6 and TCP; the first call imports scapy, which takes most of a second."""
    with _home_elsewhere():
        from scapy.layers.inet import IP, TCP
        from scapy.layers.inet6 import IPv6
        from scapy.layers.l2 import Ether
    return Layers(Ether, IP, IPv6, TCP)


@contextmanager
def _home_elsewhere() -> Iterator[None]:
    """What is written while scapy is imported goes to a folder that is removed afterwards."""
    names = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    before = {name: os.environ.get(name) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(dict.fromkeys(names, folder))
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
