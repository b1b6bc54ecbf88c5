"""How long the kernel's timers take, and what TCP makes of them: retransmissions, and the end of its patience."""

from __future__ import annotations

from harness.laws.kernel import KernelVersion, running
from harness.laws.ranges import Range, between

# include/net/tcp.h, in seconds.
RTO_MIN, RTO_MAX = 0.2, 120.0
# What a kernel may be built with (kernel/Kconfig.hz).
HZ = (100, 250, 300, 1000)
JIFFY = 1 / min(HZ)
# How long a busy machine may take to see to what a timer has started, in seconds.
LATE = 1.5

# a41e8a88b06e "tcp: better handle TCP_USER_TIMEOUT in SYN_SENT state" reckoned the patience of a SYN from 200 ms,
# 3256a2d6ab1f "tcp: adjust rto_base in retransmits_timed_out()" mended it: [first with the one, first with the other).
# 5.4 has both.
HASTY = (("4.19.77", "4.19.209"), ("5.2.19", "5.2.20"), ("5.3.4", "5.3.5"))


def granularity(seconds: float, hz: int, kernel: KernelVersion | None = None) -> float:
    """How much later than asked for a timer of so many seconds may fire, in seconds.

    500462a9de65 "timers: Switch to a non-cascading wheel", 4.8: level n of the wheel, for delays of 63 * 8 ** (n - 1)
    jiffies and more, has steps of 8 ** n. Before, a timer was exact to the jiffy.
    """
    level = next(n for n in range(9) if seconds * hz < 63 * 8**n) if (kernel or running()) >= "4.8" else 0
    return float(8**level / hz)


def about(*timers: float, late: float = LATE, kernel: KernelVersion | None = None) -> Range:
    """The time, in seconds, that kernel timers take one after the other.

    Each is up to a jiffy early and as late as the wheel makes it, whatever HZ is; `late` is the machine's share.
    """
    latest = max(sum(granularity(timer, hz, kernel) for timer in timers) for hz in HZ)
    return between(round(sum(timers) - JIFFY * len(timers), 3), round(sum(timers) + latest + late, 3))


def doubling(first: float, retries: int, longest: float = RTO_MAX) -> list[float]:
    """The waits, in seconds, for an answer to a transmission and to each of its `retries` repetitions.

    The sum is what tcp_model_timeout() in net/ipv4/tcp_timer.c gives (3.0: retransmits_timed_out()).
    """
    return [min(first * 2**n, longest) for n in range(retries + 1)]


def syn_waits(retries: int, linear: int = 0, kernel: KernelVersion | None = None) -> list[float]:
    """The waits, in seconds, for an answer to a SYN and to each of its repetitions; after the last, connect() fails.

    `retries` is tcp_syn_retries, `linear` tcp_syn_linear_timeouts (0 where there is none: before 6.5, ccce324dabfe
    "tcp: make the first N SYN RTO backoffs linear"). tcp_write_timeout(): the end comes with the timeout after
    retries + linear repetitions, or, since 5.4, after that many doublings of the initial RTO in seconds, whichever
    is earlier.
    """
    kernel = kernel or running()
    hasty = any(first <= kernel < mended for first, mended in HASTY)
    # 9ad7c049f0f7 "tcp: RFC2988bis + taking RTT sample from 3WHS for the passive open side", 3.1.
    initial = 1.0 if kernel >= "3.1" else 3.0
    patience = sum(doubling(RTO_MIN if hasty else initial, retries))
    waits: list[float] = []
    while len(waits) < 2 or (len(waits) <= retries + linear and sum(waits) < patience):
        waits.append(min(initial * 2 ** max(0, len(waits) - linear), RTO_MAX))
    return waits
