"""A backlog that is too short for its real clients, on the desk: they are far away, and fill the SYN queue together."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from harness.desk.experiment import Effect, Experiment, Outcome, Remedy, Symptom, Sysctls
from harness.desk.scale import beside_backlog, memory, raised, setting
from harness.desk.syn_flood import COOKIES, LONGER, RETRIES, SOMAXCONN, SYN_BACKLOG, TIMESTAMPS, queue_of
from harness.instruments.far_clients import far_clients, near_clients
from harness.instruments.syn_flood import Defence
from harness.lab import Lab, pair

if TYPE_CHECKING:
    from harness.diagnosis.findings import Finding
    from harness.diagnosis.view import View
    from harness.laws.queues import Knobs

MOST = 16
# Clients for each place in the queue: twice as many as fit on any kernel; the fewest where there is hardly a place.
EACH, FEWEST = 4, 40


@dataclass(frozen=True, kw_only=True)
class TooShort(Experiment):
    """A service, and clients that come together from `far`, or one after another from near.

    They have no timestamps, so that a cookie costs them options. `after` is set while the service runs.
    """

    SYMPTOM: ClassVar[Symptom] = Symptom("clients that find the SYN queue full", "clients")
    TEMPLATE: ClassVar[str] = "backlog_too_short"

    knobs: Knobs
    clients: int
    far: bool = True
    synack_retries: int = 5
    after: Sysctls = field(default_factory=dict)
    limit_there: int = 0
    backlog_there: int = 0
    somaxconn_there: int | None = None

    @classmethod
    def of(cls, finding: Finding, view: View) -> TooShort:
        """By the listener's limit, and the sysctls that count for a SYN queue."""
        queue = queue_of(finding, view, MOST)
        clients = max(EACH * queue.knobs.limit, FEWEST)
        return cls(
            knobs=queue.knobs,
            clients=clients,
            synack_retries=queue.synack_retries,
            limit_there=queue.limit,
            backlog_there=queue.backlog,
            somaxconn_there=queue.somaxconn,
            scale=(*queue.scale, setting("clients that come together from far away", None, clients)),
            notes=("They are so far away that all have come before the first ACK arrives.",),
        )

    def trial(self) -> Outcome:
        """A pair, the service, and the clients."""
        with Lab() as lab:
            net = pair(lab)
            net.client.sysctl[TIMESTAMPS] = 0
            service = Defence(self.knobs, self.synack_retries).serve(net.server)
            for name, value in self.after.items():
                net.server.sysctl[name] = value
            seen = (far_clients if self.far else near_clients)(net.client, service, self.clients)
        kept = self.clients - seen.found_full
        return Outcome(
            seen.found_full,
            (
                Effect(
                    "clients whose SYN is dropped",
                    seen.found_full - seen.by_cookie,
                    "clients",
                    "clients that were answered with a cookie have to knock again, a second later",
                ),
                Effect("connections without timestamps that lose SACK and window scaling", seen.plain, "connections"),
                *memory(kept if self.far else 1, "request_sock_TCP", "kernel memory of the SYN queue"),
            ),
        )

    def without_cause(self) -> TooShort:
        """Clients that are near: each is half-open for a moment."""
        return dataclasses.replace(self, far=False)

    def remedies(self) -> tuple[Remedy, ...]:
        """A longer queue, in full and by halves; what is said about floods; and to be rid of the cookies."""
        long, real = LONGER * self.knobs.limit, LONGER * (self.limit_there or self.knobs.limit)
        more = LONGER * self.knobs.tcp_max_syn_backlog
        return (
            Remedy(
                "a longer queue",
                f"backlog {real}{beside_backlog(SOMAXCONN, real, self.somaxconn_there)}, and listen() called again: "
                "a restart",
                partial(_with, backlog=long, somaxconn=long),
            ),
            Remedy(
                "somaxconn without a restart",
                f"{SOMAXCONN} = {raised(real, self.somaxconn_there)}",
                partial(dataclasses.replace, after={SOMAXCONN: long}),
                vain="somaxconn-without-listen",
            ),
            Remedy(
                "tcp_max_syn_backlog alone, with a restart",
                f"{SYN_BACKLOG} = {LONGER * self.backlog_there}, and a restart",
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
            Remedy("no SYN cookies", f"{COOKIES} = 0", partial(_with, tcp_syncookies=0), COOKIES, "no-cookies"),
        )

    def words(self) -> dict[str, object]:
        """The numbers of the scenario."""
        return {"knobs": self.knobs, "synack_retries": self.synack_retries, "clients": self.clients}


def _with(it: TooShort, **knobs: int) -> TooShort:
    return dataclasses.replace(it, knobs=dataclasses.replace(it.knobs, **knobs))
