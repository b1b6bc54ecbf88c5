"""Connection tracking of a host as attributes: how many connections it may know, how many it does, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import BadInput
from harness.lab.line import whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.lab.sysctl import Sysctls

MAX, COUNT = "net.netfilter.nf_conntrack_max", "net.netfilter.nf_conntrack_count"
TCP = "net.netfilter.nf_conntrack_tcp_"
# What TCP calls its states there (net/netfilter/nf_conntrack_standalone.c).
TIMEOUTS = (
    *("syn_sent", "syn_recv", "established", "fin_wait", "close_wait", "last_ack", "time_wait", "close"),
    *("max_retrans", "unacknowledged"),
)
# In seconds: the kernel keeps them in its ticks, of which there are up to 1000 a second, in 32 bits.
LONGEST = (1 << 31) // 1000
# nf_conntrack_max is a number of 32 bits.
MOST = (1 << 31) - 1


class Timeouts:
    """For how many seconds after its last packet a connection is known in each state of TCP, as a mapping.

    `host.conntrack.timeouts["established"] = 3`. It counts for an entry from its next packet on, not for those that
    are there. BadInput for a state that is none.
    """

    def __init__(self, sysctl: Sysctls) -> None:
        self._sysctl = sysctl

    def __getitem__(self, state: str) -> int:
        return int(self._sysctl[_timeout(state)])

    def __setitem__(self, state: str, seconds: int) -> None:
        name = _timeout(state)
        whole("a timeout", seconds, 0, LONGEST, "seconds")
        self._sysctl[name] = seconds

    def __iter__(self) -> Iterator[str]:
        return iter(TIMEOUTS)


class ConnectionTracking:
    """What a host knows of the connections that pass it.

    Errors are those of its sysctls, and BadInput for what no limit or timeout can be.
    """

    # A word that is none would be set, and change nothing.
    __slots__ = ("_sysctl", "timeouts")

    def __init__(self, sysctl: Sysctls) -> None:
        self._sysctl = sysctl
        self.timeouts = Timeouts(sysctl)

    @property
    def limit(self) -> int:
        """How many connections it may know; setting it raises GlobalSysctl where the limit is the machine's.

        It is the machine's before Linux 6.19 (net/netfilter/nf_conntrack_core.c, nf_conntrack_max); since then a
        namespace may have a lower one of its own.
        """
        return int(self._sysctl[MAX])

    @limit.setter
    def limit(self, connections: int) -> None:
        whole("limit", connections, 0, MOST, "connections")
        self._sysctl[MAX] = connections

    @property
    def count(self) -> int:
        """How many connections it knows now."""
        return int(self._sysctl[COUNT])

    @property
    def loose(self) -> bool:
        """Whether it takes up connections whose beginning it has not seen (nf_conntrack_tcp_loose)."""
        return self._sysctl[f"{TCP}loose"] != "0"

    @loose.setter
    def loose(self, wanted: bool) -> None:
        if wanted not in (True, False):
            raise BadInput(f"loose is True or False, not {wanted!r}")
        self._sysctl[f"{TCP}loose"] = int(wanted)


def _timeout(state: str) -> str:
    if state not in TIMEOUTS:
        raise BadInput(f"there is no timeout {state!r} of TCP connections, only {', '.join(TIMEOUTS)}")
    return f"{TCP}timeout_{state}"
