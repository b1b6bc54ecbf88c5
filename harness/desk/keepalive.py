"""A server whose keep-alive is shorter than its proxy's, on the desk: POSTs that come just after it has closed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from harness.desk.experiment import Effect, Experiment, Outcome, Remedy, Symptom, Sysctls, put
from harness.desk.scale import setting
from harness.instruments.proxy import Proxy
from harness.lab import Lab, lan
from harness.traffic.nginx import Nginx

if TYPE_CHECKING:
    from harness.diagnosis.findings import Finding
    from harness.diagnosis.view import View

FIN_TIMEOUT, REUSE = "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_tw_reuse"
SYN_BACKLOG = "net.ipv4.tcp_max_syn_backlog"
PAUSE, POSTS = 1.5, 2
SHORT, LONG = 1, 65


@dataclass(frozen=True, kw_only=True)
class KeepAlive(Experiment):
    """A client, a proxy and a server; `sysctls` are of both machines.

    The server keeps an idle connection for so many seconds, the proxy for so long (as nginx has it), `kept` of them at
    most; `more` are further directives of the proxy.
    """

    SYMPTOM: ClassVar[Symptom] = Symptom(f"POSTs that get 502, of {POSTS}", "POSTs")
    TEMPLATE: ClassVar[str] = "keep_alive"

    server_keeps: int = SHORT
    proxy_keeps: str = "60s"
    kept: int = 4
    more: str = ""
    sysctls: Sysctls = field(default_factory=dict)

    @classmethod
    def of(cls, finding: Finding, view: View) -> KeepAlive:  # noqa: ARG003 - no file says how long they keep
        """The server's files do not say how long it keeps connections: one second stands for it."""
        return cls(
            scale=(
                setting("seconds for which the server keeps an idle connection", None, SHORT),
                setting("seconds for which its proxy keeps it", None, 60),
                setting("POSTs that come when the server has just closed", None, POSTS),
            ),
        )

    def trial(self) -> Outcome:
        """Three hosts, and an nginx on two of them."""
        with Lab() as lab:
            client, between, machine = lan(lab, 3).hosts
            for host in (between, machine):
                put(host, self.sysctls)
            server = Nginx(machine, "8080", keepalive=self.server_keeps)
            proxy = Proxy(between, server, keeps=self.proxy_keeps, kept=self.kept, more=self.more)
            before = len(server.clients())
            late = [proxy.ask_late(client, PAUSE)[1] for _ in range(POSTS)]
            opened = len(server.clients()) - before
        return Outcome(
            late.count(502),
            (Effect(f"connections to the server for {2 * POSTS} requests", opened, "connections"),),
        )

    def without_cause(self) -> KeepAlive:
        """The server keeps for longer than the proxy."""
        return dataclasses.replace(self, server_keeps=LONG)

    def remedies(self) -> tuple[Remedy, ...]:
        """Who keeps for how long; and what is for TIME-WAIT or for queues."""
        return (
            Remedy(
                "the server keeps for longer than the proxy",
                f"keepalive_timeout {LONG}s on the server, 60s on the proxy",
                partial(dataclasses.replace, server_keeps=LONG),
            ),
            Remedy(
                "the proxy keeps for a shorter time than the server",
                "keepalive_timeout of the upstream, below the server's",
                partial(dataclasses.replace, proxy_keeps="500ms"),
            ),
            Remedy("the proxy keeps none", "no keepalive in the upstream", partial(dataclasses.replace, kept=0)),
            Remedy(
                "the proxy asks again",
                "proxy_next_upstream error non_idempotent, where a POST may be done twice",
                partial(dataclasses.replace, more="proxy_next_upstream error non_idempotent;"),
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
        return {"server": self.server_keeps, "proxy": self.proxy_keeps, "pause": PAUSE}


def _set(name: str, value: object, it: KeepAlive) -> KeepAlive:
    return dataclasses.replace(it, sysctls={**it.sysctls, name: value})
