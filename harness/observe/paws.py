"""How often the kernel has refused a segment for its timestamp, by whichever counters it has for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.observe.counters import Delta

# PAWSOldAck since 6.14 (d16b34479064), PAWSTimewait since 6.16 (c449d5f3a3d4); before, all were PAWSEstab.
OF_CONNECTIONS = ("TcpExt.PAWSEstab", "TcpExt.PAWSOldAck", "TcpExt.PAWSTimewait")
# Gone with tcp_tw_recycle: a kernel that has never dropped a SYN for its timestamp does not count it either.
OF_ADDRESSES = ("TcpExt.PAWSPassive",)


def rejected(moved: Delta) -> int:
    """Segments whose timestamp was older than the last of their connection, established or in TIME-WAIT."""
    return _sum_of(moved, OF_CONNECTIONS)


def rejected_syns(moved: Delta) -> int:
    """SYNs whose timestamp was older than the last of their address, with tcp_tw_recycle."""
    return _sum_of(moved, OF_ADDRESSES)


def _sum_of(moved: Delta, names: tuple[str, ...]) -> int:
    return sum(moved[name] for name in names if name in moved)
