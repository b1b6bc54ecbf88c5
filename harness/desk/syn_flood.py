"""A SYN flood on the desk: a listener under the machine's settings, SYNs that nobody acknowledges, and clients."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from harness.desk.experiment import CannotStand, Effect, Outcome, Remedy, SideBySide, Symptom
from harness.desk.scale import beside_backlog, known, scaled, setting
from harness.diagnosis.syn_queue import FLOOD
from harness.instruments.syn_flood import Defence, Services
from harness.lab import lan
from harness.laws.queues import Knobs
from harness.observe import info_of
from harness.traffic import connect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.desk.experiment import Setting
    from harness.diagnosis.findings import Finding
    from harness.diagnosis.view import View
    from harness.lab import Lab

COOKIES, SYN_BACKLOG = "net.ipv4.tcp_syncookies", "net.ipv4.tcp_max_syn_backlog"
RETRIES, SOMAXCONN = "net.ipv4.tcp_synack_retries", "net.core.somaxconn"
KNOWN = {COOKIES: 2, SYN_BACKLOG: 1 << 20, RETRIES: 255, SOMAXCONN: 1 << 20}
DEFAULTS = {COOKIES: 0, SYN_BACKLOG: 256, RETRIES: 5, SOMAXCONN: 4096}
MOST, LONGER = 64, 8
# SYNs a second, a hundredth of what a real flood has, from so many senders; clients that knock twice each.
RATE, SENDERS, CLIENTS = 1000, 4096, 20
DROPPED = 100
# Clients without timestamps, whose options a cookie cannot keep.
PLAIN = 3
TIMESTAMPS = "net.ipv4.tcp_timestamps"
# include/uapi/linux/tcp.h: SACK and window scaling of tcpi_options.
NEGOTIATED = 2 | 4


@dataclass(frozen=True)
class Queue:
    """A machine's SYN queue: the knobs on the desk, its own limit, tcp_max_syn_backlog and somaxconn, and the scale."""

    knobs: Knobs
    synack_retries: int
    limit: int
    backlog: int
    somaxconn: int | None
    scale: tuple[Setting, ...]


def queue_of(finding: Finding, view: View, most: int) -> Queue:
    """By the listener's limit, on the desk `most` at most, and the sysctls; CannotStand where there is no listener."""
    here = [each for each in view.space.listeners if each.local == finding.place.endpoint]
    limits = [look.limit for each in here for look in each.looks if look.limit is not None]
    if not limits:
        raise CannotStand("the files do not show the listener whose SYN queue it is, or not its limit: give ss -lntm")
    limit = max(limits[-1], 1)
    there = known(view, KNOWN)
    values = DEFAULTS | there
    length = scaled(limit, most)
    backlog = max(scaled(values[SYN_BACKLOG], most * values[SYN_BACKLOG] // max(limit, most)), 1)
    return Queue(
        Knobs(length, length, backlog, values[COOKIES]),
        values[RETRIES],
        limit,
        values[SYN_BACKLOG],
        there.get(SOMAXCONN),
        scale=(
            setting("limit of the listener (the smaller of backlog and somaxconn)", limit, length),
            setting(SYN_BACKLOG, there.get(SYN_BACKLOG), backlog),
            setting(COOKIES, there.get(COOKIES), values[COOKIES]),
            setting(RETRIES, there.get(RETRIES), values[RETRIES]),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class SynFlood(SideBySide):
    """A service with a defence, `flood` SYNs a second at it, and clients that come and knock twice."""

    SYMPTOM: ClassVar[Symptom] = Symptom(f"clients that are shut out, of {CLIENTS}", "clients")
    TEMPLATE: ClassVar[str] = "syn_flood"

    knobs: Knobs
    synack_retries: int = 5
    flood: int = RATE
    limit_there: int = 0
    backlog_there: int = 0
    somaxconn_there: int | None = None

    @classmethod
    def of(cls, finding: Finding, view: View) -> SynFlood:
        """By the listener's limit, and the sysctls that count for a SYN queue."""
        queue = queue_of(finding, view, MOST)
        return cls(
            knobs=queue.knobs,
            synack_retries=queue.synack_retries,
            limit_there=queue.limit,
            backlog_there=queue.backlog,
            somaxconn_there=queue.somaxconn,
            scale=(*queue.scale, setting("SYNs a second that are never acknowledged", None, RATE)),
            notes=tuple(_notes(finding.diagnosis, cookies=bool(queue.knobs.tcp_syncookies))),
        )

    @property
    def defence(self) -> Defence:
        """The settings, as harness.instruments.syn_flood has them."""
        return Defence(self.knobs, self.synack_retries)

    @classmethod
    def side_by_side(cls, lab: Lab, variants: Mapping[str, SynFlood]) -> dict[str, Outcome]:
        """A server each; first what is not flooded."""
        services = Services(partial(lan, lab), {name: each.defence for name, each in variants.items()})
        services.open()
        services.check_settings()
        calm = [name for name, each in variants.items() if not each.flood]
        served = {name: connect(services.client, services.listeners[name], CLIENTS, wait=True).ask() for name in calm}
        outcomes = {name: _outcome(services, name, served[name], 0) for name in calm}
        flooded = [name for name in variants if name not in calm]
        if not flooded:
            return outcomes
        with services.flooded(rate=RATE, distinct=SENDERS):
            undefended = [name for name in flooded if not variants[name].knobs.tcp_syncookies]
            services.wait_until_dropped(DROPPED, undefended)
            served = services.visited(CLIENTS)
            lost = {name: _without_options(services, name) for name in flooded}
            return outcomes | {name: _outcome(services, name, served[name], lost[name]) for name in flooded}

    def without_cause(self) -> SynFlood:
        """No flood."""
        return dataclasses.replace(self, flood=0)

    def remedies(self) -> tuple[Remedy, ...]:
        """Cookies, and what the documents say besides."""
        long, real = LONGER * self.knobs.backlog, LONGER * (self.limit_there or self.knobs.backlog)
        more = LONGER * self.knobs.tcp_max_syn_backlog
        cookies = Remedy("SYN cookies", f"{COOKIES} = 1", partial(_with, tcp_syncookies=1), COOKIES)
        without = Remedy("no SYN cookies", f"{COOKIES} = 0", partial(_with, tcp_syncookies=0), COOKIES)
        return (
            without if self.knobs.tcp_syncookies else cookies,
            Remedy(
                "a longer queue",
                f"backlog {real}{beside_backlog(SOMAXCONN, real, self.somaxconn_there)} and "
                f"{SYN_BACKLOG} = {LONGER * self.backlog_there}, and a restart",
                partial(_with, backlog=long, somaxconn=long, tcp_max_syn_backlog=more),
                vain="longer-queue-against-a-flood",
            ),
            Remedy(
                "tcp_max_syn_backlog alone",
                f"{SYN_BACKLOG} = {LONGER * self.backlog_there}",
                partial(_with, tcp_max_syn_backlog=more),
                SYN_BACKLOG,
                "syn-backlog-alone",
            ),
            Remedy(
                "fewer SYN-ACK retransmissions",
                f"{RETRIES} = 1",
                partial(dataclasses.replace, synack_retries=1),
                RETRIES,
                "fewer-synack-retries",
            ),
        )

    def words(self) -> dict[str, object]:
        """The numbers of the scenario."""
        return {
            "knobs": self.knobs,
            "synack_retries": self.synack_retries,
            "rate": RATE,
            "senders": SENDERS,
            "clients": CLIENTS,
        }


def _notes(diagnosis: str, *, cookies: bool) -> Iterator[str]:
    if diagnosis != FLOOD:
        yield "The files do not say whether it is a flood: it is built as if it were."
    if cookies:
        yield "SYN cookies are on already, so nobody is shut out: what is measured is what they are worth."


def _with(it: SynFlood, **knobs: int) -> SynFlood:
    return dataclasses.replace(it, knobs=dataclasses.replace(it.knobs, **knobs))


def _without_options(services: Services, name: str) -> int:
    """Of some clients without timestamps, how many have a connection without SACK and window scaling."""
    services.client.sysctl[TIMESTAMPS] = 0
    try:
        clients = connect(services.client, services.listeners[name], PLAIN, timeout=0.5)
        clients.results()
        return sum(not info_of(services.client, end).options & NEGOTIATED for end in clients.sockets)
    finally:
        services.client.sysctl[TIMESTAMPS] = 1


def _outcome(services: Services, name: str, served: int, lost: int) -> Outcome:
    return Outcome(
        CLIENTS - served,
        (
            Effect("requests half-open", services.half_open()[name], "requests"),
            Effect(f"connections of {PLAIN} without timestamps that lose SACK and window scaling", lost, "connections"),
        ),
    )
