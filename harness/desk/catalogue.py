"""Which findings have an experiment on the desk, and which do not, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.desk import (
    accept_queue,
    clocks,
    forgotten,
    gateway,
    keepalive,
    out_of_ports,
    silence,
    syn_flood,
    too_short,
    worker,
)
from harness.desk.experiment import CannotStand, Experiment
from harness.desk.scale import harmless, place
from harness.diagnosis.catalogue import NAMES
from harness.diagnosis.diagnose import diagnose
from harness.diagnosis.view import View
from harness.errors import BadInput
from harness.incident.facts import Fact
from harness.laws import boundary, since
from harness.laws.kernel import running

if TYPE_CHECKING:
    from harness.diagnosis.findings import Finding
    from harness.incident.machine import Machine

EXPERIMENTS: dict[str, type[Experiment]] = {
    "accept-queue-full": accept_queue.AcceptQueue,
    "ports-used-up": out_of_ports.OutOfPorts,
    "syn-flood": syn_flood.SynFlood,
    "syn-queue-full": syn_flood.SynFlood,
    "backlog-too-short": too_short.TooShort,
    "connect-unanswered": silence.Unanswered,
    "silent-peer": silence.SilentPeer,
    "worker-hangs": worker.HungWorker,
    "flow-forgotten": forgotten.Forgotten,
    "gateway-ports-used-up": gateway.GatewayPorts,
    "conntrack-full": gateway.ConntrackFull,
    "keep-alive-too-short": keepalive.KeepAlive,
    "nat-and-tw-recycle": clocks.Recycle,
    "timestamps-refused": clocks.OlderClock,
}
# What no desk can show, or what we have no experiment for.
NOT_HERE = {
    "drops-unexplained": "an unknown cause cannot be built",
    "descriptors-used-up": "it is the program's own limit; scenarios/test_limits_*.py show what it does",
    "time-wait-cap": "nothing fails by it that a desk could show; scenarios/test_time_wait_*.py show what it does",
    "tcp-memory": "the memory of TCP is the whole machine's, and a desk must not use it up",
    "orphans": "tcp_max_orphans is the whole machine's, and a desk must not use it up",
    "loss": "where segments are lost is on the way, and not in these files",
    "processor-backlog": "the receive backlog belongs to the processors of the machine itself",
    "socket-backlog": "it needs a processor that is too slow for its traffic, which a desk is not",
    "reverse-path": "it is the machine's routing, which these files do not have",
    "neighbour-table-full": "it is the machine's own network",
}


@dataclass(frozen=True)
class Case:
    """A finding that can be built: the experiment, and what a reader is told, in words that are safe anywhere.

    `number` is the finding's place in the diagnosis; `others` are the other findings, with why they cannot be built
    where that is so.
    """

    number: int
    finding: Finding
    experiment: Experiment
    what: str
    place: str
    kernel: str
    reasons: tuple[str, ...]
    others: tuple[str, ...]


def case_of(machine: Machine, wanted: str | None = None, *, here: bool = False) -> Case:
    """The finding that is named, by its name or its number in `harness diagnose`; or the first that can be built.

    With `here` it has to be on the running kernel.

    BadInput for a name that is none, or that the files do not show; CannotStand, with the reason, for what cannot be
    built, or where nothing is wrong.
    """
    findings = diagnose(machine).findings
    if not findings:
        raise CannotStand("nothing is wrong with this machine, as far as the files show: there is nothing to build")
    if wanted:
        number = _number(wanted, findings)
        return _case(machine, findings, number, _experiment(machine, findings[number - 1], here=here))
    reasons = []
    for number, finding in enumerate(findings, 1):
        try:
            return _case(machine, findings, number, _experiment(machine, finding, here=here))
        except CannotStand as error:
            reasons.append(str(error))
    raise CannotStand("no lab can show any of this: " + "; ".join(dict.fromkeys(reasons)))


def _number(wanted: str, findings: tuple[Finding, ...]) -> int:
    """The place of a finding by what the user typed."""
    names = [finding.diagnosis for finding in findings]
    if wanted.isdecimal() and 1 <= int(wanted) <= len(findings):
        return int(wanted)
    if wanted in names:
        return names.index(wanted) + 1
    here = ", ".join(dict.fromkeys(names))
    if wanted in NAMES:
        raise BadInput(f"--finding: the files show no {wanted}; they show {here}")
    raise BadInput(f"--finding: no finding is named {harmless(wanted, 60)!r}; the files show {here}")


def _experiment(machine: Machine, finding: Finding, *, here: bool) -> Experiment:
    kind = EXPERIMENTS.get(finding.diagnosis)
    if kind is None:
        why = NOT_HERE.get(finding.diagnosis, "there is no experiment for it yet")
        raise CannotStand(f"no lab can show {finding.diagnosis}: {why}")
    if here and kind.BEFORE and since(kind.BEFORE):
        gone = boundary(kind.BEFORE)
        raise CannotStand(
            f"{finding.diagnosis} cannot be built on Linux {running()}, only before {gone.release} "
            f"({gone.commit}): harness reproduce writes a scenario for an older kernel"
        )
    space = next(each for each in machine.namespaces if each.name == finding.place.namespace)
    try:
        return kind.of(finding, View(machine, space))
    except CannotStand as error:
        raise CannotStand(f"{finding.diagnosis} cannot be built by these files: {error}") from None


def _case(machine: Machine, findings: tuple[Finding, ...], number: int, experiment: Experiment) -> Case:
    finding = findings[number - 1]
    return Case(
        number,
        finding,
        experiment,
        what=harmless(finding.sentence, 200),
        place=place(finding),
        kernel=harmless(machine.kernel.value, 60) if isinstance(machine.kernel, Fact) else "",
        reasons=tuple(harmless(reason.says) for reason in finding.reasons[:4]),
        others=tuple(f"{each.diagnosis} at {place(each)}" for each in findings if each is not finding),
    )
