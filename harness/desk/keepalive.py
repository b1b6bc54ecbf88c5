"""A server whose keep-alive is shorter than its proxy's, on the desk: POSTs that come just after it has closed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from harness.desk.experiment import Effect, Experiment, Outcome, Remedy, Symptom, Sysctls, put
from harness.desk.scale import setting
from harness.instruments.proxy import Keeping, Site
from harness.lab import Lab, lan

if TYPE_CHECKING:
    from harness.diagnosis.findings import Finding
    from harness.diagnosis.view import View

FIN_TIMEOUT, REUSE = "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_tw_reuse"
SYN_BACKLOG = "net.ipv4.tcp_max_syn_backlog"
PAUSE, POSTS = 1.5, 2
LONG = 65
SHORT = Keeping()


@dataclass(frozen=True, kw_only=True)
class KeepAlive(Experiment):
    """A client, a proxy and a server that keep connections as `keeping` says; `sysctls` are of both machines."""

    SYMPTOM: ClassVar[Symptom] = Symptom(f"POSTs that get 502, of {POSTS}", "POSTs")
    TEMPLATE: ClassVar[str] = "keep_alive"

    keeping: Keeping = SHORT
    sysctls: Sysctls = field(default_factory=dict)

    @classmethod
    def of(cls, finding: Finding, view: View) -> KeepAlive:  # noqa: ARG003 - no file says how long they keep
        """The server's files do not say how long it keeps connections: one second stands for it."""
        return cls(
            scale=(
                setting("seconds for which the server keeps an idle connection", None, SHORT.server),
                setting("seconds for which its proxy keeps it", None, 60),
                setting("POSTs that come when the server has just closed", None, POSTS),
            ),
        )

    def trial(self) -> Outcome:
        """Three hosts, and an nginx on two of them."""
        with Lab() as lab:
            client, proxy, server = lan(lab, 3).hosts
            for host in (proxy, server):
                put(host, self.sysctls)
            site = Site(proxy, server, self.keeping)
            probed = len(site.server.clients())
            late = [site.post_after(client, PAUSE)[1] for _ in range(POSTS)]
            opened = len(site.server.clients()) - probed
        return Outcome(
            late.count(502),
            (Effect(f"connections to the server for {2 * POSTS} requests", opened, "connections"),),
        )

    def without_cause(self) -> KeepAlive:
        """The server keeps for longer than the proxy."""
        return self._keeping(server=LONG)

    def remedies(self) -> tuple[Remedy, ...]:
        """Who keeps for how long; and what is for TIME-WAIT or for queues."""
        return (
            Remedy(
                "the server keeps for longer than the proxy",
                f"keepalive_timeout {LONG}s on the server, 60s on the proxy",
                partial(KeepAlive._keeping, server=LONG),
            ),
            Remedy(
                "the proxy keeps for a shorter time than the server",
                "keepalive_timeout of the upstream, below the server's",
                partial(KeepAlive._keeping, proxy="500ms"),
            ),
            Remedy("the proxy keeps none", "no keepalive in the upstream", partial(KeepAlive._keeping, kept=0)),
            Remedy(
                "the proxy asks again",
                "proxy_next_upstream error non_idempotent, where a POST may be done twice",
                partial(KeepAlive._keeping, asks_again=True),
            ),
            Remedy(
                "a lower tcp_fin_timeout", f"{FIN_TIMEOUT} = 5", partial(_set, FIN_TIMEOUT, 5),
                FIN_TIMEOUT, "fin-timeout",
            ),
            Remedy("tcp_tw_reuse", f"{REUSE} = 1", partial(_set, REUSE, 1), REUSE, "tw-reuse-for-incoming"),
            Remedy(
                "tcp_max_syn_backlog", f"{SYN_BACKLOG} = 20000", partial(_set, SYN_BACKLOG, 20000),
                SYN_BACKLOG, "syn-backlog-alone",
            ),
        )  # fmt: skip

    def words(self) -> dict[str, object]:
        """The numbers of the scenario."""
        return {"server": self.keeping.server, "proxy": self.keeping.proxy, "pause": PAUSE}

    def _keeping(self, **how: object) -> KeepAlive:
        return dataclasses.replace(self, keeping=dataclasses.replace(self.keeping, **how))  # type: ignore[arg-type]


def _set(name: str, value: object, it: KeepAlive) -> KeepAlive:
    return dataclasses.replace(it, sysctls={**it.sysctls, name: value})
