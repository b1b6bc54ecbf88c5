"""The record of one experiment: its effect, its control, what was compared, and the verdict that follows."""

from __future__ import annotations

import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from harness.claims import instruments as reading
from harness.claims.data import Claim, Expectation, Verdict
from harness.claims.failures import Broken, ClaimFailure, Incomplete, Unexpected, Unexplained
from harness.claims.kernel import KernelVersion, running
from harness.claims.values import jsonable, matches
from harness.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from harness.lab.host import Host
    from harness.lab.lab import Lab
    from harness.observe.capture import Capture
    from harness.observe.counters import Counters, Delta

COMPARISONS_KEPT = 300
PHASES_KEPT = 64
PACKETS_KEPT = 2000

_SAME: Any = object()


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


class Phase:
    """One part of an experiment, a `with` block: the counters of every host at its start and its end, the sockets
    at its end, the knobs in force, and what was measured."""

    kind = "phase"

    def __init__(self, run: ClaimRun, title: str) -> None:
        self.title = title
        self.evidence: dict[str, Any] = {"kind": self.kind, "title": title}
        self.comparisons: list[dict[str, Any]] = []
        self._run = run
        self._labels: dict[int, str] = {}
        self._before: dict[int, Counters] = {}
        self._deltas: dict[int, Delta] | None = None

    def expect(self, what: str, measured: object, wanted: object) -> None:
        """State a condition of the experiment itself; Broken, and the run ends here, if it is not met.

        `wanted` is a value, or a range of harness.claims.values.
        """
        __tracebackhide__ = True
        met = matches(wanted, measured)
        self._note_comparison(what, measured, "met" if met else "not met", wanted=wanted)
        if not met:
            raise Broken(f"{self.kind} {self.title!r}: {what}: measured {measured!r}, must be {wanted!r}")

    def delta(self, host: Host) -> Delta:
        """How far a host's counters moved since the phase began; until its end, once it has ended."""
        if self._deltas is not None and id(host) in self._deltas:
            return self._deltas[id(host)]
        return reading.moved(self._before.get(id(host)), self._run.instruments.counters(host))[0]

    def note(self, key: str, value: object) -> None:
        """Keep something else that was seen as evidence."""
        self.evidence.setdefault("notes", {})[key] = jsonable(value)

    def series(self, name: str, points: Sequence[tuple[float, float]], *, unit: str = "", x: str = "s") -> None:
        """Keep a law or a course of time for the plots: (x, y) points, y in `unit`, x in seconds unless told."""
        curve = {"x": x, "unit": unit, "points": jsonable(points)}
        self.evidence.setdefault("series", {})[name] = curve

    def __enter__(self) -> Self:
        self._run.begin(self)
        for host in self._run.hosts().values():
            self._before[id(host)] = self._run.instruments.counters(host)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.evidence["interrupted"] = f"{type(error).__name__}: {error}"[:500]
        try:
            self._read()
        except Exception as unreadable:  # what broke the phase must not be hidden by what it broke
            if error is None:
                raise
            self.note("not read", str(unreadable))
        finally:
            self._run.end(self)

    def _read(self) -> None:
        self._deltas = {}
        hosts = self._run.hosts()
        # All counters first: reading a socket table costs memory and time, and none of it is the experiment's.
        after = {name: self._run.instruments.counters(host) for name, host in hosts.items()}
        for name, host in hosts.items():
            self._deltas[id(host)], changed = reading.moved(self._before.get(id(host)), after[name])
            self._keep("counters", name, changed)
            self._keep("knobs", name, {knob: list(values) for knob, values in host.sysctl.changed.items()})
            table = reading.socket_table(host, self._run.instruments)
            self._keep("sockets", name, table if table["total"] else {})

    def _keep(self, part: str, host: str, value: dict[str, Any]) -> None:
        if value:
            self.evidence.setdefault(part, {})[host] = jsonable(value)

    def _note_comparison(self, what: str, measured: object, result: str, **sides: object) -> None:
        comparison: dict[str, Any] = {"what": what, "measured": jsonable(measured)}
        comparison |= {side: jsonable(value) for side, value in sides.items()}
        comparison["result"] = result
        if result in ("neither", "not met"):
            frame = sys._getframe(2)  # noqa: SLF001 - the public inspect.stack() reads source files
            comparison["where"] = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        self.comparisons.append(comparison)


class Control(Phase):
    """The same measurement with the cause removed: all that it measures must be as wanted."""

    kind = "control"


class Effect(Phase):
    """The measurement with the cause present."""

    kind = "effect"

    def compare(self, what: str, measured: object, *, document: object, kernel: object = _SAME) -> None:
        """Compare a measurement with what the document says and with our account of the kernel.

        The document's value supports "holds", the kernel's "refuted" (one that is both is the document's); neither
        makes the run fail at its end as unexplained. Each is a value or a range of harness.claims.values; `kernel`
        is the document's unless given.
        """
        if kernel is _SAME:
            kernel = document
        result = "document" if matches(document, measured) else "kernel" if matches(kernel, measured) else "neither"
        self._note_comparison(what, measured, result, document=document, kernel=kernel)


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
        self.captures: list[tuple[str, Capture]] = []
        self.packets: bytes | None = None
        self._instruments = instruments
        self._open: Phase | None = None
        self._absence: dict[str, Any] | None = None

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

    def capture(self, host: Host, interface: str | None = None, *, limit: int = PACKETS_KEPT) -> Capture:
        """Capture at a host's interface until the run ends; saved with the evidence, shown if the run fails.

        `limit` is in packets.
        """
        from harness.observe import capture

        started = capture(host, interface, limit=limit).__enter__()
        self.captures.append((f"{host.name}:{interface}" if interface else host.name, started))
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
            for _, capture in self.captures:
                capture.__exit__(None, None, None)

    def exchanges(self) -> list[tuple[str, list[str]]]:
        """What was captured, as lines, by where it was."""
        return [(place, reading.exchange(capture)) for place, capture in self.captures]

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
        run["phases"] = [_phase_evidence(phase) for phase in self.phases[:PHASES_KEPT]]
        if len(self.phases) > PHASES_KEPT:
            run["phases_left_out"] = len(self.phases) - PHASES_KEPT
        return run

    def _forget(self, lab: Lab) -> None:
        if self._open is not None:
            self._open.note("closed before the phase ended", list(lab.all_hosts))
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
            commit = expected.boundary and f", commit {expected.boundary.commit} in {expected.boundary.release}"
            raise Unexpected(
                f"{self.claim.name} on {self.kernel}: {verdict}, but {expected.verdict} is expected for "
                f"{expected.kernels} ({expected.because}{commit or ''})"
            )


def _neither(comparison: dict[str, Any]) -> str:
    return (
        f"{comparison['where']}: {comparison['what']}: measured {comparison['measured']}, "
        f"the document says {comparison['document']}, our account of the kernel {comparison['kernel']}"
    )


def _phase_evidence(phase: Phase) -> dict[str, Any]:
    evidence = dict(phase.evidence)
    evidence["comparisons"] = phase.comparisons[:COMPARISONS_KEPT]
    if len(phase.comparisons) > COMPARISONS_KEPT:
        evidence["comparisons_left_out"] = len(phase.comparisons) - COMPARISONS_KEPT
    return evidence
