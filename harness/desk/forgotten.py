"""Connections that a firewall has forgotten, on the desk: idle for longer than it remembers, and then asked."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from harness.desk.experiment import Effect, Outcome, Remedy, SideBySide, Symptom, Sysctls, put
from harness.desk.scale import known, setting
from harness.instruments.between import TRACKING, chains, watch
from harness.instruments.idle_pool import Asked, ask_after_pause
from harness.instruments.silent_server import Patience
from harness.traffic import echo, listen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.diagnosis.findings import Finding
    from harness.diagnosis.view import View
    from harness.lab import Lab

KEEPALIVE, INTERVAL, FIN_TIMEOUT = (
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_fin_timeout",
)
KNOWN = {KEEPALIVE: 1 << 16, INTERVAL: 1 << 16}
POOL = 3
# Seconds: how long the firewall remembers, how long the pool is idle, how long it waits for answers.
REMEMBERS, PAUSE, WAITS = 2, 5, 3
HOUR = 3600
NONE = Patience()


@dataclass(frozen=True, kw_only=True)
class Forgotten(SideBySide):
    """A pool of connections with `patience` on a client with `sysctls`, through a firewall that `remembers` so long.

    `loose` lets it take up what it does not know, `rejects` answer that with RST.
    """

    SYMPTOM: ClassVar[Symptom] = Symptom(f"queries that hang, of {POOL}", "queries")
    TEMPLATE: ClassVar[str] = "flow_forgotten"

    sysctls: Sysctls = field(default_factory=dict)
    patience: Patience = NONE
    remembers: int = REMEMBERS
    loose: int = 0
    rejects: bool = False

    @classmethod
    def of(cls, finding: Finding, view: View) -> Forgotten:  # noqa: ARG003 - any destination is like another
        """By the client's keepalive; how long the firewall remembers, the client's files do not say."""
        there = known(view, KNOWN)
        return cls(
            sysctls=there,
            scale=(
                setting("seconds after which the firewall forgets", None, REMEMBERS),
                setting("seconds that the connections are idle", None, PAUSE),
                setting(KEEPALIVE, there.get(KEEPALIVE), there.get(KEEPALIVE, 7200)),
            ),
            notes=("A firewall of the cloud forgets after some 350 s; Linux, unless it is told to, after five days.",),
        )

    @classmethod
    def side_by_side(cls, lab: Lab, variants: Mapping[str, Forgotten]) -> dict[str, Outcome]:
        """A client, a firewall and a server each."""
        built = dict(zip(variants, chains(lab, len(variants)), strict=True))
        pools = {}
        for name, variant in variants.items():
            chain = built[name]
            put(chain.client, variant.sysctls)
            watch(chain.between, remembers=variant.remembers, loose=variant.loose)
            if variant.rejects:
                chain.between.firewall.reject(state="invalid")
            pools[chain.client] = listen(chain.server, answer=echo), variant.patience
        asked = ask_after_pause(pools, POOL, pause=PAUSE, patience=WAITS)
        return {name: _outcome(asked[chain.client]) for name, chain in built.items()}

    def without_cause(self) -> Forgotten:
        """The firewall remembers for longer than the pause."""
        return dataclasses.replace(self, remembers=HOUR)

    def remedies(self) -> tuple[Remedy, ...]:
        """Of the application, of the firewall; and what counts only where it is asked for."""
        return (
            Remedy(
                "keepalive of the connections, sooner than the firewall forgets",
                "SO_KEEPALIVE with TCP_KEEPIDLE and TCP_KEEPINTVL below the firewall's time",
                partial(dataclasses.replace, patience=Patience(keepalive_idle=1)),
            ),
            Remedy(
                "the firewall remembers for longer",
                f"on the firewall: {TRACKING}timeout_established, or the idle timeout of the cloud's",
                partial(dataclasses.replace, remembers=HOUR),
            ),
            Remedy(
                "TCP_USER_TIMEOUT",
                "TCP_USER_TIMEOUT 1000 ms, set by the application, which connects anew",
                partial(dataclasses.replace, patience=Patience(user_timeout=1000)),
            ),
            Remedy(
                "the firewall rejects with RST",
                "on the firewall: ct state invalid reject with tcp reset, in place of drop",
                partial(dataclasses.replace, rejects=True),
            ),
            Remedy(
                "tcp_keepalive_time alone",
                f"{KEEPALIVE} = 1",
                lambda it: dataclasses.replace(it, sysctls={**it.sysctls, KEEPALIVE: 1, INTERVAL: 1}),
                vain="keepalive-time-alone",
            ),
            Remedy(
                "a lower tcp_fin_timeout",
                f"{FIN_TIMEOUT} = 5",
                lambda it: dataclasses.replace(it, sysctls={**it.sysctls, FIN_TIMEOUT: 5}),
                vain="fin-timeout",
            ),
        )

    def words(self) -> dict[str, object]:
        """The numbers of the scenario."""
        return {"sysctls": self.sysctls, "pool": POOL, "remembers": REMEMBERS, "pause": PAUSE, "waits": WAITS}


def _outcome(asked: Asked) -> Outcome:
    return Outcome(
        asked.hang,
        (
            Effect("queries that are answered", asked.answered, "queries"),
            Effect("connections that are told of an error", asked.told, "connections"),
        ),
    )
