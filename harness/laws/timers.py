"""How long the kernel's timers take, and what TCP makes of them: retransmissions, its patience, lifetimes of states."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.laws.boundaries import before, since
from harness.laws.ranges import Range, between

if TYPE_CHECKING:
    from harness.laws.kernel import KernelVersion

# include/net/tcp.h, in seconds.
RTO_MIN, RTO_MAX = 0.2, 120.0
# What a kernel may be built with (kernel/Kconfig.hz).
HZ = (100, 250, 300, 1000)
JIFFY = 1 / min(HZ)
# How long a busy machine may take to see to what a timer has started, in seconds.
LATE = 1.5
# The same for what the timer itself ends: nobody has to be woken for that.
AT_ONCE = 0.1

# include/net/tcp.h, TCP_TIMEWAIT_LEN, in seconds.
TIME_WAIT = 60.0
# include/net/inet_timewait_sock.h: the clock that once ended all TIME-WAIT went through so many slots in 60 s.
SLOTS = 8
SLOT = TIME_WAIT / SLOTS
# include/net/tcp.h, TCP_SYNQ_INTERVAL: before each request had a timer, its listener looked at a part of them so often,
# in seconds, and at each within three such intervals (inet_csk_reqsk_queue_prune()).
LISTENER_LOOKS = 0.2

# net/ipv4/tcp_timer.c, tcp_orphan_retries(): what tcp_orphan_retries 0, the default, stands for.
ORPHAN_RETRIES = 8
# The RTO of a network where a round trip takes no time: the least one, rounded up to a tick and half another.
RTO_OF_A_LAN = RTO_MIN + JIFFY

# include/net/tcp.h, TCP_KEEPALIVE_TIME, _PROBES, _INTVL: after how many seconds of silence a connection is probed, how
# often, and how many seconds apart.
KEEPALIVE_TIME, KEEPALIVE_PROBES, KEEPALIVE_INTERVAL = 7200, 9, 75


def granularity(seconds: float, hz: int, kernel: KernelVersion | None = None) -> float:
    """How much later than asked for a timer of so many seconds may fire, in seconds.

    Level n of the wheel, for delays of 63 * 8 ** (n - 1) jiffies and more, has steps of 8 ** n. Before there was that
    wheel, a timer was allowed to be a 256th of its time late (kernel/timer.c, apply_slack()).
    """
    if before("long-timers-are-coarse", kernel):
        return max(1 / hz, seconds / 256)
    level = next(n for n in range(9) if seconds * hz < 63 * 8**n)
    return float(8**level / hz)


def about(*timers: float, late: float = LATE, kernel: KernelVersion | None = None) -> Range:
    """The time, in seconds, that kernel timers take one after the other.

    Each is up to a jiffy early and as late as the wheel makes it, whatever HZ is; `late` is the machine's share.
    """
    return between(round(sum(timers) - JIFFY * len(timers), 3), round(_latest(timers, kernel) + late, 3))


@dataclass(frozen=True, repr=False)
class Lasts:
    """How long a state lasts that a timer ends, in seconds.

    Measured are two bounds: it lasted at least until it was last seen, and at most until it was first missed. On a busy
    machine they lie far apart; what counts is that it may have ended between the two looks as the law says.
    """

    earliest: float
    latest: float

    def accepts(self, measured: tuple[float, float]) -> bool:
        """Whether the state may have ended when it should, by (at least, at most)."""
        at_least, at_most = measured
        return at_most >= self.earliest and at_least <= self.latest

    def __repr__(self) -> str:
        return f"lasts {self.earliest:g} to {self.latest:g} s"


def lasting(*timers: float, kernel: KernelVersion | None = None) -> Lasts:
    """What kernel timers of so many seconds end that run one after the other, each set when the last has fired."""
    return _lasts(sum(timers), _latest(timers, kernel))


def time_wait_lasting(seconds: float = TIME_WAIT, *, kernel: KernelVersion | None = None) -> Lasts:
    """TIME-WAIT, or FIN-WAIT-2 that no application holds any more, which ends after so many seconds.

    Where one clock ended all of them it ended those of a slot every 7.5 s: those of 60 s with the eighth tick that
    followed, others with the first tick that was certainly not early (inet_twsk_schedule(); 4 s and less had another
    clock).
    """
    if since("time-wait-has-its-own-timer", kernel):
        return lasting(seconds, kernel=kernel)
    slots = min(math.ceil(seconds / SLOT), SLOTS - 1)
    return _lasts(slots * SLOT, (slots + 1) * SLOT)


def half_open_lasting(*waits: float, kernel: KernelVersion | None = None) -> Lasts:
    """A half-open request that waits so long for an answer to its SYN-ACK, and to each of its repetitions."""
    if since("half-open-has-its-own-timer", kernel):
        return lasting(*waits, kernel=kernel)
    return _lasts(sum(waits), sum(waits) + 3 * LISTENER_LOOKS * len(waits))


def orphan_lasting(retries: int = 0, *, kernel: KernelVersion | None = None) -> Lasts:
    """A connection of a LAN that no application holds any more, and whose FIN nobody acknowledges.

    `retries` is tcp_orphan_retries: it stands for the time that so many doublings of 200 ms take. The end comes with
    the first timeout at which so much has passed since the first retransmission; each is as long again as all before
    it, and a probe for a lost tail may come before the first. net/ipv4/tcp_timer.c, tcp_write_timeout().
    """
    waits = doubling(RTO_MIN, retries or ORPHAN_RETRIES)
    patience = sum(waits)
    late = max(sum(granularity(timer, hz, kernel) for timer in waits) for hz in HZ)
    return _lasts(RTO_MIN + patience, 2 * patience + 4 * RTO_OF_A_LAN + late)


def _lasts(earliest: float, latest: float) -> Lasts:
    """With the jiffy that a timer may be early, as seen from user space, and the machine's share."""
    return Lasts(round(earliest - 2 * JIFFY, 3), round(latest + AT_ONCE, 3))


def _latest(timers: tuple[float, ...] | list[float], kernel: KernelVersion | None) -> float:
    """When the last of timers fires at the latest that run one after the other, whatever HZ is."""
    return sum(timers) + max(sum(granularity(timer, hz, kernel) for timer in timers) for hz in HZ)


def doubling(first: float, retries: int, longest: float = RTO_MAX) -> list[float]:
    """The waits, in seconds, for an answer to a transmission and to each of its `retries` repetitions.

    The sum is what tcp_model_timeout() in net/ipv4/tcp_timer.c gives (3.0: retransmits_timed_out()).
    """
    return [min(first * 2**n, longest) for n in range(retries + 1)]


def initial_rto(kernel: KernelVersion | None = None) -> float:
    """After how many seconds a SYN or a SYN-ACK is sent again for the first time (TCP_TIMEOUT_INIT)."""
    return 1.0 if since("initial-rto-is-one-second", kernel) else 3.0


def syn_waits(retries: int, linear: int = 0, kernel: KernelVersion | None = None) -> list[float]:
    """The waits, in seconds, for an answer to a SYN and to each of its repetitions; after the last, connect() fails.

    `retries` is tcp_syn_retries, `linear` tcp_syn_linear_timeouts, 0 where there is none. tcp_write_timeout(): the end
    comes with the timeout after retries + linear repetitions, or when as many doublings of the initial RTO have passed
    as there are retries, whichever is earlier. Between two commits, of which some stable series had one for a while,
    the doublings began with 200 ms.
    """
    initial = initial_rto(kernel)
    hasty = since("user-timeout-ends-a-syn", kernel) and before("syn-patience-counts-whole-timeouts", kernel)
    patience = sum(doubling(RTO_MIN if hasty else initial, retries))
    waits: list[float] = []
    while len(waits) < 2 or (len(waits) <= retries + linear and sum(waits) < patience):
        waits.append(min(initial * 2 ** max(0, len(waits) - linear), RTO_MAX))
    return waits
