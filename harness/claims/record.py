"""The record of one experiment: its effect, its control, what was compared, and the verdict that follows."""

from __future__ import annotations

import time
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from harness.claims import instruments as reading
from harness.claims.data import Claim, Expectation, Verdict
from harness.claims.failures import Broken, ClaimFailure, Incomplete, Unexpected, Unexplained
from harness.claims.phases import Control, Effect, Phase
from harness.claims.stored import jsonable
from harness.errors import BadInput
from harness.lab.impairment import Impairment, SegmentMatch
from harness.laws.kernel import KernelVersion, running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.lab.host import Host
    from harness.lab.lab import Lab
    from harness.observe.capture import Capture

PHASES_KEPT = 64
PACKETS_KEPT = 2000
IMPAIRMENTS_KEPT = 200


class Outcome(StrEnum):
    """What became of a run."""

    EXPECTED = "expected"
    UNEXPECTED = "unexpected"
    UNEXPLAINED = "unexplained"
    BROKEN = "broken"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    UNSETTLED = "unsettled"


_OUTCOMES: dict[type[BaseException], Outcome] = {
    Incomplete: Outcome.INCOMPLETE,
    Broken: Outcome.BROKEN,
    Unexplained: Outcome.UNEXPLAINED,
    Unexpected: Outcome.UNEXPECTED,
}


class ClaimRun:
    """One run of one claim's scenario: what the `claim` fixture hands to the test."""

    def __init__(
        self, claim: Claim, *, kernel: KernelVersion | None = None, instruments: reading.Instruments | None = None
    ) -> None:
        self.claim = claim
        self.kernel = kernel or running()
        self.labs: list[Lab] = []
        self.phases: list[Phase] = []
        self.verdict: Verdict | None = None
        self.outcome: Outcome | None = None
        self.reason = ""
        self.started = time.time()
        self.duration = 0.0
        self.captures: list[Capture] = []
        self.packets: bytes | None = None
        self._instruments = instruments
        self._open: Phase | None = None
        self._absence: dict[str, Any] | None = None
        self._impairments: list[dict[str, Any]] = []

    # For the scenario.

    def effect(self, title: str) -> Effect:
        """A phase with the cause present; `title` says what was done."""
        return Effect(self, title)

    def control(self, title: str) -> Control:
        """A phase with the cause removed."""
        return Control(self, title)

    def not_applicable(self, why: str, *, shown: object) -> None:
        """This kernel has nothing that the claim could be about; `shown` is what the kernel said to that."""
        self._absence = {"why": why, "shown": jsonable(shown)}

    def watch(self, lab: Lab) -> None:
        """Include a lab that the scenario built itself; those of the fixtures are."""
        self.labs.append(lab)
        lab.on_close(lambda: self._forget(lab))

    def capture(
        self, host: Host, interface: str | None = None, *, limit: int = PACKETS_KEPT, port: int | None = None
    ) -> Capture:
        """Capture at a host until the run ends; saved with the evidence, and shown if the run fails.

        Keeps the first `limit` packets; the rest as harness.observe.capture.
        """
        from harness import observe

        started = observe.capture(host, interface, limit=limit, port=port).__enter__()
        self.captures.append(started)
        return started

    # For the phases.

    @property
    def instruments(self) -> reading.Instruments:
        """What the phases read the kernel with."""
        if self._instruments is None:
            self._instruments = reading.of_the_kernel()
        return self._instruments

    def hosts(self) -> dict[str, Host]:
        """Every host of the run's labs."""
        return reading.hosts_of(self.labs)

    def begin(self, phase: Phase) -> None:
        """Note that a phase begins; phases follow each other."""
        if self._open is not None:
            raise BadInput(f"{phase.kind} {phase.title!r} begins within {self._open.kind} {self._open.title!r}")
        self._open = phase
        self.phases.append(phase)

    def end(self, phase: Phase) -> None:
        """Note that a phase has ended."""
        assert self._open is phase
        self._open = None

    # For whoever runs the scenario.

    @property
    def expectation(self) -> Expectation | None:
        """What the claim file expects on this kernel."""
        return self.claim.expected_on(self.kernel)

    def settle(self) -> None:
        """Draw the verdict at the end of the scenario; raises the ClaimFailure that it is, if it is one."""
        try:
            self.verdict = self._draw_verdict()
            self._meet_expectation(self.verdict)
            self.outcome = Outcome.EXPECTED
        except ClaimFailure as failure:
            self.fail(failure)
            raise

    def fail(self, error: BaseException) -> None:
        """Note that the scenario ended with an error."""
        self.outcome = _OUTCOMES.get(type(error), Outcome.FAILED)
        self.reason = str(error) if isinstance(error, ClaimFailure) else f"{type(error).__name__}: {error}"

    def leave_unsettled(self, reason: str) -> None:
        """Note that the scenario could not be run here."""
        self.outcome = Outcome.UNSETTLED
        self.reason = reason

    def stop_captures(self) -> None:
        """Stop what capture() started when the scenario is over, and keep what was seen."""
        if self.captures and self.packets is None:
            self.packets = reading.pcapng(self.captures)
        for capture in self.captures:
            capture.__exit__(None, None, None)

    def exchanges(self) -> list[tuple[str, list[str]]]:
        """What was captured, as lines, by where it was."""
        return [(_place(capture), capture.exchange()) for capture in self.captures]

    def as_dict(self) -> dict[str, Any]:
        """The run as evidence; harness.claims.evidence says what each part means."""
        expectation = self.expectation
        run: dict[str, Any] = {
            "outcome": self.outcome,
            "verdict": self.verdict,
            "expected": expectation and expectation.verdict,
            "reason": self.reason,
            "started": round(self.started, 3),
            "duration": round(self.duration, 3),
        }
        if self._absence is not None:
            run["absence"] = self._absence
        if impairments := [*self._impairments, *_impairments(self.labs)][:IMPAIRMENTS_KEPT]:
            run["impairments"] = impairments
        run["phases"] = [phase.as_dict() for phase in self.phases[:PHASES_KEPT]]
        if len(self.phases) > PHASES_KEPT:
            run["phases_left_out"] = len(self.phases) - PHASES_KEPT
        return run

    def _forget(self, lab: Lab) -> None:
        if self._open is not None:
            self._open.note("closed before the phase ended", list(lab.all_hosts))
        self._impairments += _impairments([lab])
        self.labs.remove(lab)

    def _draw_verdict(self) -> Verdict:
        if self._absence is not None:
            if not self._absence["shown"]:
                raise Incomplete("not applicable, but nothing was shown for it: give not_applicable() what was seen")
            return Verdict.NOT_APPLICABLE
        effects = [one for phase in self.phases if isinstance(phase, Effect) for one in phase.comparisons]
        compared = [one for one in effects if "document" in one]
        controls = [one for phase in self.phases if isinstance(phase, Control) for one in phase.comparisons]
        if not self.phases:
            raise Incomplete(
                "the scenario measured nothing: it has to use the `claim` fixture's effect() and control()"
            )
        if not compared:
            raise Incomplete("the scenario compared no effect: claim.effect(…) with a compare(…) in it is missing")
        if not controls:
            raise Incomplete("the scenario measured no control: claim.control(…) with an expect(…) in it is missing")
        unexplained = [one for one in compared if one["result"] == "neither"]
        if unexplained:
            raise Unexplained("\n".join(_neither(one) for one in unexplained[:10]))
        return Verdict.REFUTED if any(one["result"] == "kernel" for one in compared) else Verdict.HOLDS

    def _meet_expectation(self, verdict: Verdict) -> None:
        expected = self.expectation
        if expected is None:
            raise Unexpected(f"{self.claim.name} on {self.kernel}: {verdict}, and nothing is expected of this kernel")
        if expected.verdict is not verdict:
            commit = expected.boundary and f", {expected.boundary}"
            raise Unexpected(
                f"{self.claim.name} on {self.kernel}: {verdict}, but {expected.verdict} is expected for "
                f"{expected.kernels} ({expected.because}{commit or ''})"
            )


def _neither(comparison: dict[str, Any]) -> str:
    return (
        f"{comparison['where']}: {comparison['what']}: measured {comparison['measured']}, "
        f"the document says {comparison['document']}, our account of the kernel {comparison['kernel']}"
    )


def _impairments(labs: Sequence[Lab]) -> list[dict[str, Any]]:
    """What the scenario did to the traffic of these labs."""
    return [_impairment(seen()) for lab in labs for seen in lab.impairments]


def _impairment(rule: Impairment) -> dict[str, Any]:
    given = {key: value for key, value in asdict(rule.match).items() if value != getattr(SegmentMatch, key)}
    return asdict(rule) | {"match": given}


def _place(capture: Capture) -> str:
    return f"{capture.host.name}:{capture.interface}" if capture.interface else capture.host.name
