"""A worker that hangs, on the desk: several share a port with SO_REUSEPORT, and one of them does not accept."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from harness.desk.experiment import CannotStand, Effect, Experiment, Outcome, Remedy, Symptom, Sysctls, put
from harness.desk.scale import known, scaled, setting
from harness.instruments.shared_port import Crowd, Workers
from harness.lab import Lab, pair

if TYPE_CHECKING:
    from harness.diagnosis.findings import Finding
    from harness.diagnosis.view import View

SOMAXCONN, SYN_BACKLOG = "net.core.somaxconn", "net.ipv4.tcp_max_syn_backlog"
MIGRATE, ABORT = "net.ipv4.tcp_migrate_req", "net.ipv4.tcp_abort_on_overflow"
KNOWN = {SYN_BACKLOG: 1 << 20, MIGRATE: 1, ABORT: 1}
MOST_WORKERS, MOST, LONGER = 8, 5, 8
# Clients for each worker: more than find room in a queue, and so many that chance makes no share half as large again as
# another: each trial draws its own (net/core/sock_reuseport.c). With 60 it did once in 170, with 150 in some 40,000.
EACH = 150


@dataclass(frozen=True, kw_only=True)
class HungWorker(Experiment):
    """`workers` at one port, the first of which hangs, if it `hangs`; `restarted` when the clients have come, if so."""

    SYMPTOM: ClassVar[Symptom] = Symptom("clients that are not served", "clients")
    TEMPLATE: ClassVar[str] = "worker_hangs"

    workers: int
    backlog: int
    hangs: bool = True
    shared: bool = True
    restarted: bool = False
    sysctls: Sysctls = field(default_factory=dict)

    @classmethod
    def of(cls, finding: Finding, view: View) -> HungWorker:
        """By how many sockets there are at the port, and how long their queues are."""
        together = [each for each in view.space.listeners if each.local == finding.place.endpoint]
        limits = [look.limit for each in together for look in each.looks if look.limit is not None]
        if len(together) < 2 or not limits:
            raise CannotStand("the files do not show the sockets at the port and their limits: give ss -lntmpe")
        workers, limit = scaled(len(together), MOST_WORKERS), max(*limits, 1)
        backlog = scaled(limit, MOST)
        return cls(
            workers=workers,
            backlog=backlog,
            sysctls=known(view, KNOWN),
            scale=(
                setting("workers at the port", len(together), workers),
                setting("limit of each accept queue (Send-Q)", limit, backlog),
                setting("clients that come", None, EACH * workers),
            ),
        )

    @property
    def clients(self) -> int:
        """How many come."""
        return EACH * self.workers

    def trial(self) -> Outcome:
        """A pair, the workers, and the crowd."""
        with Lab() as lab:
            net = pair(lab)
            put(net.server, self.sysctls)
            net.server.sysctl[SOMAXCONN] = LONGER * self.backlog
            workers = Workers(net.server, self.workers, self.backlog, hangs=self.hangs, shared=self.shared)
            crowd = Crowd(net.client, workers, self.clients, stuck=workers.stuck)
            seen, longest = crowd.seen(), workers.longest_queue()
            if self.restarted and self.shared:
                workers.restart_first()
            if self.restarted or not self.hangs or not self.shared:
                seen = crowd.in_the_end()
        return Outcome(
            self.clients - seen.served,
            (
                Effect("longest queue", longest, "connections"),
                Effect(
                    "clients that are connected, and wait in vain",
                    seen.in_vain,
                    "clients",
                    "more clients believe to be served, and wait in vain",
                ),
                Effect("connections reset", seen.reset, "clients"),
            ),
        )

    def without_cause(self) -> HungWorker:
        """None hangs."""
        return dataclasses.replace(self, hangs=False)

    def remedies(self) -> tuple[Remedy, ...]:
        """The worker is dealt with; and what is said about queues."""
        again = partial(dataclasses.replace, restarted=True)
        return (
            Remedy("the worker is restarted", "kill -9 PID; whoever started it starts another", again),
            Remedy(
                "its connections go to the others when it is",
                f"{MIGRATE} = 1, and then kill -9 PID",
                lambda it: dataclasses.replace(again(it), sysctls={**it.sysctls, MIGRATE: 1}),
                MIGRATE,
            ),
            Remedy(
                "one queue for all workers",
                "listen() without SO_REUSEPORT (nginx: without reuseport)",
                partial(dataclasses.replace, shared=False),
            ),
            Remedy(
                "a longer queue",
                f"backlog and {SOMAXCONN} {LONGER} times as long, and a restart of the others",
                lambda it: dataclasses.replace(it, backlog=LONGER * it.backlog),
                vain="longer-queue-for-a-hung-worker",
            ),
            Remedy(
                "tcp_max_syn_backlog alone", f"{SYN_BACKLOG} = 20000", partial(_set, SYN_BACKLOG, 20000),
                SYN_BACKLOG, "syn-backlog-alone",
            ),
            Remedy("tcp_abort_on_overflow", f"{ABORT} = 1", partial(_set, ABORT, 1), ABORT, "abort-on-overflow"),
        )  # fmt: skip

    def words(self) -> dict[str, object]:
        """The numbers of the scenario."""
        return {"workers": self.workers, "backlog": self.backlog, "clients": self.clients, "sysctls": self.sysctls}


def _set(name: str, value: int, it: HungWorker) -> HungWorker:
    return dataclasses.replace(it, sysctls={**it.sysctls, name: value})
