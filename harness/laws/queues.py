"""How many connections wait and how many stay half-open: the kernel's rules as a function of version and settings.

The functions state what net/ipv4/tcp_input.c (tcp_conn_request()), include/net/inet_connection_sock.h
(inet_csk_reqsk_queue_is_full()) and include/net/sock.h (sk_acceptq_is_full()) do; scenarios compare them with real
kernels, over random settings too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.laws.boundaries import before, since

if TYPE_CHECKING:
    from harness.laws.kernel import KernelVersion


@dataclass(frozen=True)
class Knobs:
    """What decides the two ceilings. `backlog` is listen()'s argument, the others are sysctls of the same name."""

    backlog: int
    somaxconn: int = 4096
    tcp_max_syn_backlog: int = 4096
    tcp_syncookies: int = 1

    def __str__(self) -> str:
        return f"backlog = {self.backlog}, " + ", ".join(
            f"{name} = {getattr(self, name)}" for name in ("somaxconn", "tcp_max_syn_backlog", "tcp_syncookies")
        )

    @property
    def limit(self) -> int:
        """What listen() makes of the backlog; inet_diag shows it as the Send-Q of the listener.

        A negative backlog is a huge one: the comparison is unsigned (net/socket.c, __sys_listen()).
        """
        return min(self.backlog % 2**32, self.somaxconn)


def waiting(kernel: KernelVersion, knobs: Knobs) -> int:
    """The most connections that wait for accept() when they come one after another and nobody accepts.

    The queue is full when its length exceeds the limit, so one more than the limit waits. Nobody gets there when not
    even one request may be half-open.
    """
    if knobs.tcp_syncookies == 0 and half_open(kernel, knobs) == 0:
        return 0
    return knobs.limit + 1


def half_open(kernel: KernelVersion, knobs: Knobs) -> int:
    """The most requests that stay half-open when SYNs of unknown peers are never acknowledged.

    With cookies off a second rule keeps the last quarter of tcp_max_syn_backlog for peers that the kernel knows. With
    tcp_syncookies=2 no request is ever kept.
    """
    if knobs.tcp_syncookies == 2:
        return 0
    full = _full_at(kernel, knobs)
    if knobs.tcp_syncookies == 1:
        return full
    return min(full, _last_quarter(knobs.tcp_max_syn_backlog))


def one_longer(kernel: KernelVersion) -> bool:
    """Whether as many requests may be half-open as connections may wait: one more than the limit."""
    return since("syn-queue-holds-one-more", kernel)


def _full_at(kernel: KernelVersion, knobs: Knobs) -> int:
    """The length at which inet_csk_reqsk_queue_is_full() begins to say so."""
    if before("syn-queue-follows-the-backlog", kernel):
        # reqsk_queue_alloc(): a table of its own, a power of two above the smaller of the two, at least eight.
        return _power_of_two_above(max(min(knobs.limit, knobs.tcp_max_syn_backlog), 8))
    return knobs.limit + one_longer(kernel)


def _last_quarter(max_syn_backlog: int) -> int:
    """The last length at which `max_syn_backlog - length < max_syn_backlog >> 2` is still false, and one more."""
    return max(max_syn_backlog - (max_syn_backlog >> 2) + 1, 0)


def _power_of_two_above(n: int) -> int:
    return 1 << n.bit_length()


def answered_at_full(kernel: KernelVersion | None = None) -> int:
    """How many SYNs at a full accept queue are answered at most, on the running kernel unless another is given.

    Those up to which no more than one request is young; none since such SYNs are dropped.
    """
    return 2 if before("accept-queue-full-drops-syns", kernel) else 0
