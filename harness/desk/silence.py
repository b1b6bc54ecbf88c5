"""A destination that does not answer any more, on the desk: nobody answers a SYN, or nobody answers on a connection."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar, TypeVar

from harness.desk.experiment import CannotStand, Effect, Outcome, Remedy, SideBySide, Symptom, Sysctls, put
from harness.desk.scale import known, setting
from harness.instruments.silent_server import (
    Patience,
    Waited,
    ask_in_an_outage,
    ask_silence,
    connect_in_an_outage,
    connect_to_silence,
)
from harness.lab import lan
from harness.laws import since
from harness.laws.timers import syn_waits
from harness.traffic import connect, echo, listen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.diagnosis.findings import Finding
    from harness.diagnosis.view import View
    from harness.lab import Lab

SYN_RETRIES, LINEAR, RETRIES2 = "net.ipv4.tcp_syn_retries", "net.ipv4.tcp_syn_linear_timeouts", "net.ipv4.tcp_retries2"
FIN_TIMEOUT, KEEPALIVE = "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_time"
# A keepalive that would notice at once, if it were asked.
FAST = {KEEPALIVE: 1, "net.ipv4.tcp_keepalive_intvl": 1, "net.ipv4.tcp_keepalive_probes": 1}
E = TypeVar("E", "Unanswered", "SilentPeer")
CALLS = 3
# With so many retransmissions a connection lives for longer than it is looked at: 0.2 s, doubled each time.
LONG_RETRIES = 6
# How long it is looked at, and how long an outage is that a client should survive, in seconds.
WATCHED, OUTAGE = 5.0, 2.5
# What a remedy gives a client, in seconds.
GIVEN = 3
NONE = Patience()


@dataclass(frozen=True, kw_only=True)
class Unanswered(SideBySide):
    """Clients with `sysctls` and `patience` that connect() to a server which is silent; without the cause it is not."""

    SYMPTOM: ClassVar[Symptom] = Symptom(f"connect() calls that still wait after {WATCHED:g} s, of {CALLS}", "calls")
    TEMPLATE: ClassVar[str] = "unanswered"

    sysctls: Sysctls = field(default_factory=dict)
    patience: Patience = NONE
    silent: bool = True

    @classmethod
    def of(cls, finding: Finding, view: View) -> Unanswered:  # noqa: ARG003 - any destination is like another
        """By the sysctls that say how long a connect() goes on."""
        there = known(view, {SYN_RETRIES: 127, LINEAR: 127})
        linear = 4 if since("syn-retries-linear-at-first", view.kernel) else 0
        waits = sum(syn_waits(there.get(SYN_RETRIES, 6), there.get(LINEAR, linear), view.kernel))
        if waits <= WATCHED:
            raise CannotStand(
                f"by its settings a connect() gives up after {waits:.0f} s: there is no long wait to show"
            )
        return cls(
            sysctls=there,
            scale=(
                setting("connect() calls at once", None, CALLS),
                setting("how long each is looked at, in seconds", round(waits), round(WATCHED)),
            ),
            notes=(f"With the machine's settings a connect() gives up after {waits:.0f} s.",),
        )

    @classmethod
    def side_by_side(cls, lab: Lab, variants: Mapping[str, Unanswered]) -> dict[str, Outcome]:
        """A client each, and two servers: a silent one, and one with a short outage."""
        silent, outage, *hosts = lan(lab, 2 + len(variants)).hosts
        server, other = listen(silent, answer=echo), listen(outage, answer=echo)
        clients = dict(zip(variants, hosts, strict=True))
        well = [name for name, each in variants.items() if not each.silent]
        outcomes = {
            name: Outcome(CALLS - connect(clients.pop(name), server, CALLS, wait=True).connected) for name in well
        }
        for name, client in clients.items():
            put(client, variants[name].sysctls)
        patience = {client: variants[name].patience for name, client in clients.items()}
        waited = connect_to_silence(patience, server, CALLS, seconds=WATCHED)
        through = connect_in_an_outage(patience, other, CALLS, seconds=OUTAGE)
        return outcomes | {name: _connecting(waited[client], through[client]) for name, client in clients.items()}

    def without_cause(self) -> Unanswered:
        """The server answers."""
        return dataclasses.replace(self, silent=False)

    def remedies(self) -> tuple[Remedy, ...]:
        """Patience that ends; and what is for connections, and not for a SYN."""
        user_timeout = Patience(user_timeout=1000 * GIVEN)
        return (
            Remedy(
                "a timeout of the application",
                f"{GIVEN} s for connect(), as an option of the client, or SO_SNDTIMEO",
                partial(dataclasses.replace, patience=Patience(connect_timeout=GIVEN)),
            ),
            Remedy("fewer SYNs", f"{SYN_RETRIES} = 1", partial(_with, {SYN_RETRIES: 1}), SYN_RETRIES),
            Remedy(
                "TCP_USER_TIMEOUT",
                f"TCP_USER_TIMEOUT {1000 * GIVEN} ms, set by the application",
                partial(dataclasses.replace, patience=user_timeout),
            ),
            Remedy("a lower tcp_retries2", f"{RETRIES2} = 2", partial(_with, {RETRIES2: 2}), vain="retries2-for-a-syn"),
            Remedy(
                "keepalive",
                f"SO_KEEPALIVE, and {KEEPALIVE} = 1",
                lambda it: dataclasses.replace(_with(FAST, it), patience=Patience(keepalive=True)),
                vain="keepalive-for-a-syn",
            ),
            Remedy(
                "a lower tcp_fin_timeout", f"{FIN_TIMEOUT} = 5", partial(_with, {FIN_TIMEOUT: 5}), vain="fin-timeout"
            ),
        )

    def words(self) -> dict[str, object]:
        """The numbers of the scenario."""
        return {"sysctls": self.sysctls, "calls": CALLS, "watched": f"{WATCHED:g}", "given": GIVEN}


@dataclass(frozen=True, kw_only=True)
class SilentPeer(SideBySide):
    """Clients with `sysctls` and `patience` whose server falls silent while they are connected, or does not."""

    SYMPTOM: ClassVar[Symptom] = Symptom(f"connections that still wait after {WATCHED:g} s, of {CALLS}", "connections")
    TEMPLATE: ClassVar[str] = "silent_peer"

    sysctls: Sysctls = field(default_factory=dict)
    patience: Patience = NONE
    silent: bool = True

    @classmethod
    def of(cls, finding: Finding, view: View) -> SilentPeer:  # noqa: ARG003 - any destination is like another
        """By tcp_retries2."""
        there = known(view, {RETRIES2: 255})
        if there.get(RETRIES2, LONG_RETRIES) < LONG_RETRIES:
            raise CannotStand(f"tcp_retries2 is {there[RETRIES2]}: its connections end within seconds, and do not wait")
        return cls(
            sysctls=there,
            scale=(
                setting(RETRIES2, there.get(RETRIES2), there.get(RETRIES2, 15)),
                setting("connections that have sent data", None, CALLS),
                setting("seconds that each is looked at", None, round(WATCHED)),
            ),
        )

    @classmethod
    def side_by_side(cls, lab: Lab, variants: Mapping[str, SilentPeer]) -> dict[str, Outcome]:
        """A client each, and two servers: a silent one, and one with a short outage."""
        silent, outage, *hosts = lan(lab, 2 + len(variants)).hosts
        server, other = listen(silent, answer=echo), listen(outage, answer=echo)
        clients = dict(zip(variants, hosts, strict=True))
        for name, client in clients.items():
            put(client, variants[name].sysctls)
        well = [name for name, each in variants.items() if not each.silent]
        outcomes = {name: Outcome(CALLS - connect(clients.pop(name), server, CALLS, wait=True).ask()) for name in well}
        patience = {client: variants[name].patience for name, client in clients.items()}
        waited = ask_silence(patience, server, CALLS, seconds=WATCHED)
        survived = ask_in_an_outage(patience, other, CALLS, seconds=OUTAGE)
        return outcomes | {name: _connected(waited[client], survived[client]) for name, client in clients.items()}

    def without_cause(self) -> SilentPeer:
        """The server answers."""
        return dataclasses.replace(self, silent=False)

    def remedies(self) -> tuple[Remedy, ...]:
        """Patience that ends; and what does not count while data waits."""
        return (
            Remedy(
                "TCP_USER_TIMEOUT",
                f"TCP_USER_TIMEOUT {1000 * GIVEN} ms, set by the application",
                partial(dataclasses.replace, patience=Patience(user_timeout=1000 * GIVEN)),
            ),
            Remedy("a lower tcp_retries2", f"{RETRIES2} = 2", partial(_with, {RETRIES2: 2}), RETRIES2),
            Remedy(
                "keepalive",
                f"SO_KEEPALIVE, and {KEEPALIVE} = 1",
                lambda it: dataclasses.replace(_with(FAST, it), patience=Patience(keepalive=True)),
                vain="keepalive-with-data-outstanding",
            ),
            Remedy(
                "a lower tcp_fin_timeout", f"{FIN_TIMEOUT} = 5", partial(_with, {FIN_TIMEOUT: 5}), vain="fin-timeout"
            ),
        )

    def words(self) -> dict[str, object]:
        """The numbers of the scenario."""
        return {"sysctls": self.sysctls, "calls": CALLS, "watched": f"{WATCHED:g}"}


def _with(sysctls: Sysctls, it: E) -> E:
    return dataclasses.replace(it, sysctls={**it.sysctls, **sysctls})


def _connecting(waited: Waited, through: int) -> Outcome:
    what = f"calls that an outage of {OUTAGE:g} s turns away, of {CALLS}"
    return Outcome(
        waited.waiting,
        (Effect("the last gives up after", round(waited.longest, 1), "s"), Effect(what, CALLS - through, "calls")),
    )


def _connected(waited: Waited, survived: int) -> Outcome:
    what = f"connections that an outage of {OUTAGE:g} s ends, of {CALLS}"
    return Outcome(
        waited.waiting,
        (
            Effect("the last gives up after", round(waited.longest, 1), "s"),
            Effect(what, CALLS - survived, "connections"),
        ),
    )
