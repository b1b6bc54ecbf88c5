"""A full accept queue on the desk: a program that is busy for a moment, or for good, and the clients that come."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.desk.experiment import CannotStand, Effect, Experiment, Outcome, Remedy, Symptom, Sysctls
from harness.desk.scale import beside_backlog, known, memory, raised, scaled, setting
from harness.diagnosis.accept_queue import fullest
from harness.instruments.busy_moment import Seen, busy_moment, one_by_one, overload
from harness.lab import Lab, pair
from harness.traffic import echo, listen

if TYPE_CHECKING:
    from harness.diagnosis.findings import Finding
    from harness.diagnosis.view import View
    from harness.incident.sockets import Listener

SOMAXCONN, SYN_BACKLOG = "net.core.somaxconn", "net.ipv4.tcp_max_syn_backlog"
RECYCLE, ABORT = "net.ipv4.tcp_tw_recycle", "net.ipv4.tcp_abort_on_overflow"
# Of the machine what matters beside the queue's length, with the values that a desk can have.
KNOWN = {SYN_BACKLOG: 1 << 20, "net.ipv4.tcp_syncookies": 2, ABORT: 1}
MOST, MOST_WHEN_IT_LASTS = 16, 5
# How much longer the queue of the remedy is.
LONGER = 8
# So many looks, all of a full queue, say that the program does not keep up. A snapshot leaves equal ones out between.
LASTS = 2
# Connections a second that the program accepts after a busy moment; clients that come where it does not keep up.
ACCEPTS, OVERLOAD = 100, 240
# Of so many that come it accepts one.
OF = 2
FAR = 3
# A somaxconn that any kernel takes.
LARGEST = 65535


@dataclass(frozen=True, kw_only=True)
class AcceptQueue(Experiment):
    """A listener with `backlog` under `somaxconn`, and `clients` that come.

    "moment": all at once, while the program is busy; "overload": it accepts one of `one_of`; "one by one": each comes
    when the one before has its answer. `before` are sysctls in force when listen() is called, `after` what is set
    while the program runs.
    """

    SYMPTOM: ClassVar[Symptom] = Symptom("clients that found the queue full", "clients")
    TEMPLATE: ClassVar[str] = "accept_queue"

    backlog: int
    somaxconn: int
    clients: int
    workload: Literal["moment", "overload", "one by one"] = "moment"
    one_of: int = OF
    before: Sysctls = field(default_factory=dict)
    after: Sysctls = field(default_factory=dict)
    limit_there: int = 0
    somaxconn_there: int | None = None

    @classmethod
    def of(cls, finding: Finding, view: View) -> AcceptQueue:
        """By the listener's limit, somaxconn, and whether it was full at every look."""
        listener = _listener(finding, view)
        look = fullest(view, listener) or listener.last
        limit = look.limit if look.limit is not None else max(look.waiting - 1, 1)
        most = view.sysctl(SOMAXCONN)
        looks = [each for each in listener.looks if each.limit is not None]
        lasts = len(looks) >= LASTS and all(each.is_full for each in looks)
        here = max(scaled(limit, MOST_WHEN_IT_LASTS if lasts else MOST), 1)
        # Where the limit is somaxconn's, the program may have asked for more.
        backlog, somaxconn = (LONGER * here, here) if most == limit else (here, _beside(most, limit, here))
        clients = OVERLOAD if lasts else 2 * (here + 1)
        often = "twice as many as the program accepts" if lasts else "at once, while the program is busy"
        return cls(
            backlog=backlog,
            somaxconn=somaxconn,
            clients=clients,
            workload="overload" if lasts else "moment",
            before=known(view, KNOWN),
            limit_there=limit,
            somaxconn_there=most,
            scale=(
                setting("limit of the accept queue (Send-Q)", limit, here),
                setting("net.core.somaxconn", most, somaxconn),
                setting("backlog of listen()", limit if most != limit else None, backlog),
                setting(f"clients that come, {often}", None, clients),
            ),
            notes=(_why(len(looks), lasts=lasts),),
        )

    @property
    def limit(self) -> int:
        """What listen() makes of the backlog."""
        return min(self.backlog, self.somaxconn)

    def trial(self) -> Outcome:
        """A pair, a listener, and the clients."""
        with Lab() as lab:
            net = pair(lab)
            for name, value in {**self.before, SOMAXCONN: self.somaxconn}.items():
                net.server.sysctl[name] = value
            by_hand = self.workload == "overload"
            listener = listen(
                net.server, self.backlog, rate=None if by_hand else ACCEPTS, answer=None if by_hand else echo
            )
            for name, value in self.after.items():
                net.server.sysctl[name] = value
            if self.workload == "moment":
                seen = busy_moment(net.client, listener, self.clients, late=min(FAR, self.limit))
            elif self.workload == "overload":
                seen = overload(net.client, listener, self.clients, of=self.one_of)
            else:
                seen = one_by_one(net.client, listener, self.clients)
        return _outcome(seen)

    def without_cause(self) -> AcceptQueue:
        """A program that keeps up: each client comes when the one before has its answer."""
        return dataclasses.replace(self, workload="one by one")

    def remedies(self) -> tuple[Remedy, ...]:
        """A longer queue, in full and by halves; a program with time; and what is said to help."""
        long, real = LONGER * self.limit, LONGER * (self.limit_there or self.limit)
        narrow = "somaxconn" if self.somaxconn <= self.backlog else "backlog"
        more, more_there = min(raised(long, self.somaxconn), LARGEST), raised(real, self.somaxconn_there)
        return (
            Remedy(
                "a longer queue",
                f"backlog {real}{beside_backlog(SOMAXCONN, real, self.somaxconn_there)}, and listen() called again: "
                "a restart",
                partial(dataclasses.replace, backlog=long, somaxconn=max(long, self.somaxconn)),
            ),
            Remedy("a program that accepts sooner", "see what it waits for; more workers", AcceptQueue.sooner),
            Remedy(
                "somaxconn without a restart",
                f"{SOMAXCONN} = {more_there}",
                lambda it: dataclasses.replace(it, after={**it.after, SOMAXCONN: more}),
                vain="somaxconn-without-listen",
            ),
            Remedy(
                "somaxconn alone, with a restart",
                f"{SOMAXCONN} = {more_there}, and a restart",
                partial(dataclasses.replace, somaxconn=more),
                vain="" if narrow == "somaxconn" else "somaxconn-without-listen",
            ),
            Remedy(
                "a longer backlog alone, with a restart",
                f"backlog {real}, and a restart",
                partial(dataclasses.replace, backlog=long),
                vain="" if narrow == "backlog" else "somaxconn-without-listen",
            ),
            Remedy(
                "tcp_max_syn_backlog alone, with a restart",
                f"{SYN_BACKLOG} = 20000, and a restart",
                lambda it: dataclasses.replace(it, before={**it.before, SYN_BACKLOG: 20000}),
                knob=SYN_BACKLOG,
                vain="syn-backlog-alone",
            ),
            Remedy("tcp_abort_on_overflow", f"{ABORT} = 1", partial(_while_it_runs, ABORT), ABORT, "abort-on-overflow"),
            Remedy("tcp_tw_recycle", f"{RECYCLE} = 1", partial(_while_it_runs, RECYCLE), RECYCLE, "recycle"),
        )

    def sooner(self) -> AcceptQueue:
        """The program accepts each client as it comes."""
        return dataclasses.replace(self, workload="overload", one_of=1)

    def words(self) -> dict[str, object]:
        """The numbers of the scenario."""
        return {
            "backlog": self.backlog,
            "somaxconn": self.somaxconn,
            "clients": self.clients,
            "workload": self.workload,
            "accepts": ACCEPTS,
            "of": self.one_of,
            "before": self.before,
        }


def _while_it_runs(name: str, it: AcceptQueue) -> AcceptQueue:
    return dataclasses.replace(it, after={**it.after, name: 1})


def _listener(finding: Finding, view: View) -> Listener:
    """The listener that a finding is about."""
    here = [each for each in view.space.listeners if each.local == finding.place.endpoint]
    if not here:
        raise CannotStand("the files do not show which listener's queue overflows: give ss -lntmpe, a few times")
    return max(here, key=lambda each: max((look.waiting for look in each.looks), default=0))


def _beside(there: int | None, limit: int, here: int) -> int:
    """What stands for a somaxconn that is not the limit: it is to it as on the machine."""
    return LONGER * here if there is None or there < limit else min(max(there * here // limit, here), LARGEST)


def _why(looks: int, *, lasts: bool) -> str:
    if lasts:
        return f"The queue was full at each of {looks} looks: the program does not keep up, and not only for a moment."
    return "The queue was not seen full for long: the program is taken to be busy for a moment."


def _outcome(seen: Seen) -> Outcome:
    return Outcome(
        seen.turned_away,
        (
            Effect("longest queue", seen.recv_q, "connections"),
            Effect("longest wait of a client that is served", round(seen.longest, 2), "s"),
            Effect("connections reset", seen.reset, "clients", "clients that believed to be connected are reset"),
            *memory(seen.recv_q, "TCP", "kernel memory of the longest queue"),
        ),
    )
