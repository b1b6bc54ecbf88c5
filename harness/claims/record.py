"""The record of one experiment: its effect, its control, what was compared, and the verdict that follows."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from harness.claims import reading
from harness.claims.failures import Broken, ClaimFailure, Incomplete, Unexpected, Unexplained
from harness.claims.phases import Control, Effect
from harness.errors import BadInput
from harness.evidence.types import (
    Absence,
    Check,
    Judgement,
    Kernel,
    Outcome,
    Result,
    Run,
    Verdict,
)
from harness.evidence.values import storable, value_of
from harness.laws import boundaries
from harness.laws.kernel import KernelVersion, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.claims.phases import LivePhase
    from harness.evidence.types import Claim, Comparison, Expectation
    from harness.lab.host import Host
    from harness.lab.impairment import Impairment, LineUsed
    from harness.lab.lab import Lab
    from harness.observe.capture import Capture

PHASES_KEPT = 64
PACKETS_KEPT = 2000
IMPAIRMENTS_KEPT = 200


_OUTCOMES: dict[type[BaseException], Outcome] = {
    Incomplete: Outcome.INCOMPLETE,
    Broken: Outcome.BROKEN,
    Unexplained: Outcome.UNEXPLAINED,
    Unexpected: Outcome.UNEXPECTED,
}


class ClaimRun:
    """One run of one claim's scenario: what the `claim` fixture hands to the test."""

    def __init__(
        self, claim: Claim, *, kernel: KernelVersion | None = None, reader: reading.Reader | None = None
    ) -> None:
        boundaries.forget_asked()
        self.claim = claim
        self.kernel = kernel or running()
        self.labs: list[Lab] = []
        self.phases: list[LivePhase] = []
        self.verdict: Verdict | None = None
        self.outcome: Outcome | None = None
        self.reason = ""
        self.started = time.time()
        self.duration = 0.0
        self.captures: list[Capture] = []
        self.packets: bytes | None = None
        self._reader = reader
        self._open: LivePhase | None = None
        self._absence: Absence | None = None
        self._shown = False
        self._impairments: list[Impairment] = []
        self._lines: list[LineUsed] = []

    # For the scenario.

    def effect(self, title: str) -> Effect:
        """A phase with the cause present; `title` says what was done."""
        return Effect(self, title)

    def control(self, title: str) -> Control:
        """A phase with the cause removed."""
        return Control(self, title)

    def not_applicable(self, why: str, *, shown: object) -> None:
        """This kernel has nothing that the claim could be about; `shown` is what the kernel said to that."""
        self._absence = Absence(storable(why), value_of(shown))
        self._shown = bool(shown)

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
    def reader(self) -> reading.Reader:
        """What the phases read the kernel with."""
        if self._reader is None:
            self._reader = reading.of_the_kernel()
        return self._reader

    def hosts(self) -> dict[str, Host]:
        """Every host of the run's labs."""
        return reading.hosts_of(self.labs)

    def begin(self, phase: LivePhase) -> None:
        """Note that a phase begins; phases follow each other."""
        if self._open is not None:
            raise BadInput(f"{phase.kind} {phase.title!r} begins within {self._open.kind} {self._open.title!r}")
        self._open = phase
        self.phases.append(phase)

    def end(self, phase: LivePhase) -> None:
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

    def as_evidence(
        self, nodeid: str, params: str = "", options: Sequence[str] = (), *, kernel_name: str = ""
    ) -> Run:  # fmt: skip
        """The run as evidence; `nodeid`, `params` and `options` are pytest's, `kernel_name` is that of --kernel."""
        expectation = self.expectation
        return Run(
            kernel=kernel_of(self.kernel),
            nodeid=nodeid,
            outcome=self.outcome or Outcome.FAILED,
            started=round(self.started, 3),
            duration=round(self.duration, 3),
            params=params,
            kernel_name=kernel_name,
            options=tuple(options),
            verdict=self.verdict,
            expected=None if expectation is None else expectation.verdict,
            reason=storable(self.reason),
            absence=self._absence,
            impairments=(*self._impairments, *_impairments(self.labs))[:IMPAIRMENTS_KEPT],
            lines=(*self._lines, *_lines(self.labs))[:IMPAIRMENTS_KEPT],
            phases=tuple(phase.as_evidence() for phase in self.phases[:PHASES_KEPT]),
            phases_left_out=max(0, len(self.phases) - PHASES_KEPT),
            asked=tuple(sorted(boundaries.asked())),
        )

    def _forget(self, lab: Lab) -> None:
        if self._open is not None:
            self._open.note("closed before the phase ended", list(lab.all_hosts))
        self._impairments += _impairments([lab])
        self._lines += _lines([lab])
        self.labs.remove(lab)

    def _draw_verdict(self) -> Verdict:
        if self._absence is not None:
            if not self._shown:
                raise Incomplete("not applicable, but nothing was shown for it: give not_applicable() what was seen")
            return Verdict.NOT_APPLICABLE
        if not self.phases:
            raise Incomplete(
                "the scenario measured nothing: it has to use the `claim` fixture's effect() and control()"
            )
        judgements = [comparison for comparison in self._comparisons() if isinstance(comparison, Judgement)]
        if not judgements:
            raise Incomplete("the scenario compared no effect: claim.effect(…) with a compare(…) in it is missing")
        if not any(isinstance(comparison, Check) for comparison in self._comparisons()):
            raise Incomplete("the scenario measured no control: claim.control(…) with an expect(…) in it is missing")
        unexplained = [judgement for judgement in judgements if judgement.result is Result.NEITHER]
        if unexplained:
            raise Unexplained("\n".join(map(_neither, unexplained[:10])))
        refuted = any(judgement.result is Result.KERNEL for judgement in judgements)
        return Verdict.REFUTED if refuted else Verdict.HOLDS

    def _comparisons(self) -> Iterator[Comparison]:
        return (comparison for phase in self.phases for comparison in phase.comparisons)

    def _meet_expectation(self, verdict: Verdict) -> None:
        expected = self.expectation
        if expected is None:
            raise Unexpected(f"{self.claim.name} on {self.kernel}: {verdict}, and nothing is expected of this kernel")
        if expected.verdict is not verdict:
            commit = expected.change and f", {expected.change}"
            raise Unexpected(
                f"{self.claim.name} on {self.kernel}: {verdict}, but {expected.verdict} is expected for "
                f"{expected.kernels} ({expected.because}{commit or ''})"
            )
        # Else a defect on one side of a claim would hide behind what is still refuted on another.
        against = [judgement for phase in self.phases for judgement in phase.against_our_account]
        if verdict is Verdict.REFUTED and against:
            raise Unexpected("\n".join(map(_document_alone, against[:10])))


def kernel_of(version: KernelVersion) -> Kernel:
    """A kernel as evidence names it."""
    release = ".".join(str(number) for number in version.release)
    candidate = f"-rc{version.candidate}" if version.candidate else ""
    return Kernel(str(version), release + candidate, os.uname().machine)


def _neither(judgement: Judgement) -> str:
    return (
        f"{judgement.where}: {judgement.what}: measured {judgement.measured}, "
        f"the document says {judgement.document}, our account of the kernel {judgement.kernel}"
    )


def _document_alone(judgement: Judgement) -> str:
    return (
        f"{judgement.what}: {judgement.measured}, as the document says, must be {judgement.kernel}: "
        "by our account of the kernel, and the claim is refuted elsewhere"
    )


def _impairments(labs: Sequence[Lab]) -> tuple[Impairment, ...]:
    """What the scenario did to the traffic of these labs."""
    return tuple(seen() for lab in labs for seen in lab.impairments)


def _lines(labs: Sequence[Lab]) -> tuple[LineUsed, ...]:
    """What the cables of these labs did to frames, those that did anything."""
    return tuple(used for lab in labs for cable in lab.cables if (used := cable.used()))


def _place(capture: Capture) -> str:
    return f"{capture.host.name}:{capture.interface}" if capture.interface else capture.host.name
