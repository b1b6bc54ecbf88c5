"""Clients behind one address whose timestamps are refused, on the desk: by tcp_tw_recycle, or by a TIME-WAIT."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from harness.desk.experiment import Effect, Experiment, Outcome, Remedy, Symptom, Sysctls, put
from harness.desk.scale import known, setting
from harness.instruments.older_clock import meet_time_wait
from harness.instruments.shared_address import let_in, shift_clock
from harness.lab import Lab, behind_nat
from harness.traffic import listen
from harness.traffic.closing import leave_time_wait

if TYPE_CHECKING:
    from harness.diagnosis.findings import Finding
    from harness.diagnosis.view import View

RECYCLE, RFC1337 = "net.ipv4.tcp_tw_recycle", "net.ipv4.tcp_rfc1337"
TIMESTAMPS, REUSE, FIN_TIMEOUT = "net.ipv4.tcp_timestamps", "net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_fin_timeout"
# Ticks of the timestamp clock, milliseconds on most kernels.
BEHIND, CLIENTS = 1_000_000, 3


@dataclass(frozen=True, kw_only=True)
class Recycle(Experiment):
    """A server with `sysctls`, and two clients behind a gateway, the second of which is `behind` so many ticks."""

    SYMPTOM: ClassVar[Symptom] = Symptom(f"connect() calls of the second client that fail, of {CLIENTS}", "calls")
    TEMPLATE: ClassVar[str] = "nat_and_recycle"
    BEFORE: ClassVar[str] = "tw-recycle-is-gone"

    sysctls: Sysctls = field(default_factory=lambda: {RECYCLE: 1})
    behind: int = BEHIND

    @classmethod
    def of(cls, finding: Finding, view: View) -> Recycle:  # noqa: ARG003 - the clients' clocks are in no file
        """By tcp_tw_recycle; how far the clients' clocks are apart, the server's files do not say."""
        return cls(
            scale=(
                setting(RECYCLE, view.sysctl(RECYCLE), 1),
                setting("ticks that the second client's clock is behind", None, BEHIND),
            ),
        )

    def trial(self) -> Outcome:
        """Two clients, a gateway and a server."""
        with Lab() as lab:
            net = behind_nat(lab)
            ahead, behind = net.clients
            listener = listen(net.server)
            shift_clock(ahead, 0)
            shift_clock(behind, -self.behind)
            for name, value in self.sysctls.items():
                net.server.sysctl[name] = value
            leave_time_wait(ahead, listener, closer="server")
            return Outcome(CLIENTS - let_in(behind, listener, CLIENTS))

    def without_cause(self) -> Recycle:
        """tcp_tw_recycle off."""
        return self._with(RECYCLE, 0)

    def remedies(self) -> tuple[Remedy, ...]:
        """The cause removed; and what is for connections that a machine opens itself."""
        return (
            Remedy("no tcp_tw_recycle", f"{RECYCLE} = 0", partial(Recycle._with, name=RECYCLE, value=0), RECYCLE),
            Remedy(
                "tcp_tw_reuse", f"{REUSE} = 1", partial(Recycle._with, name=REUSE, value=1),
                REUSE, "tw-reuse-for-incoming",
            ),
            Remedy(
                "a lower tcp_fin_timeout", f"{FIN_TIMEOUT} = 5", partial(Recycle._with, name=FIN_TIMEOUT, value=5),
                FIN_TIMEOUT, "fin-timeout",
            ),
        )  # fmt: skip

    def words(self) -> dict[str, object]:
        """The numbers of the scenario."""
        return {"behind": self.behind, "clients": CLIENTS}

    def _with(self, name: str, value: object) -> Recycle:
        return dataclasses.replace(self, sysctls={**self.sysctls, name: value})


@dataclass(frozen=True, kw_only=True)
class OlderClock(Experiment):
    """A server with `sysctls`, and two clients that the gateway gives `one_port`, the second `behind` so many ticks."""

    SYMPTOM: ClassVar[Symptom] = Symptom("SYNs that the second client sends in vain", "SYNs")
    TEMPLATE: ClassVar[str] = "timestamps_refused"

    sysctls: Sysctls = field(default_factory=dict)
    behind: int = BEHIND
    one_port: bool = True

    @classmethod
    def of(cls, finding: Finding, view: View) -> OlderClock:  # noqa: ARG003 - the clients' clocks are in no file
        """By tcp_rfc1337."""
        there = known(view, {RFC1337: 1})
        return cls(
            sysctls=there,
            scale=(
                setting(RFC1337, there.get(RFC1337), there.get(RFC1337, 0)),
                setting("ports of the gateway outside", None, 1),
                setting("ticks that the second client's clock is behind", None, BEHIND),
            ),
        )

    def trial(self) -> Outcome:
        """Two clients, a gateway and a server."""
        with Lab() as lab:
            net = behind_nat(lab)
            put(net.server, self.sysctls)
            met = meet_time_wait(net, listen(net.server), behind=self.behind, one_port=self.one_port)
        return Outcome(
            met.in_vain,
            (
                Effect("SYNs refused for their timestamps", met.refused, "SYNs"),
                Effect("clients that are not let in", 0 if met.connected else 1, "clients"),
                Effect("connect() ends after", round(met.seconds, 2), "s"),
            ),
        )

    def without_cause(self) -> OlderClock:
        """Clocks that agree."""
        return dataclasses.replace(self, behind=0)

    def remedies(self) -> tuple[Remedy, ...]:
        """More ports, no RFC 1337; and knobs that are not concerned."""
        return (
            Remedy(
                "more ports of the gateway outside", "a wider range of ports, or more addresses, in the gateway's rule",
                partial(dataclasses.replace, one_port=False),
            ),
            Remedy("no tcp_rfc1337", f"{RFC1337} = 0", partial(_with, RFC1337, 0), RFC1337),
            # Not timestamps off at the server: then the sequence number of the SYN decides, which is drawn, and half of
            # them are let in (net/ipv4/tcp_minisocks.c, tcp_timewait_state_process()).
            Remedy(
                "no tcp_tw_recycle", f"{RECYCLE} = 0", partial(_with, RECYCLE, 0),
                RECYCLE, "recycle-off-where-it-is-gone",
            ),
            Remedy("tcp_tw_reuse", f"{REUSE} = 1", partial(_with, REUSE, 1), REUSE, "tw-reuse-for-incoming"),
        )  # fmt: skip

    def words(self) -> dict[str, object]:
        """The numbers of the scenario."""
        return {"behind": self.behind, "rfc1337": self.sysctls.get(RFC1337, 0)}


def _with(name: str, value: object, it: OlderClock) -> OlderClock:
    return dataclasses.replace(it, sysctls={**it.sysctls, name: value})
