"""One part of an experiment: what the kernel's counters, knobs and sockets were, and what was compared."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from harness.claims import reading
from harness.claims.failures import Broken
from harness.errors import renamed
from harness.evidence import types
from harness.evidence.types import (
    Check,
    Comparison,
    Judgement,
    Knob,
    Moved,
    Note,
    PhaseKind,
    Premise,
    Result,
    Series,
    SocketTable,
    wanted_of,
)
from harness.evidence.values import Kind, storable, value_of
from harness.laws.ranges import matches

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from harness.lab.host import Host
    from harness.lab.lab import Lab
    from harness.observe.counters import Counters, Delta

COMPARISONS_KEPT = 300

_SAME = object()


class Experiment(Protocol):
    """The record that a phase is part of."""

    labs: list[Lab]

    @property
    def reader(self) -> reading.Reader:
        """What the kernel is read with."""

    def hosts(self) -> dict[str, Host]:
        """Every host of its labs."""

    def begin(self, phase: LivePhase) -> None:
        """A phase begins."""

    def end(self, phase: LivePhase) -> None:
        """It has ended."""


class LivePhase:
    """One part of an experiment, a `with` block: the counters of every host at its start and its end, the sockets
    at its end, the knobs in force, and what was measured."""

    kind: ClassVar[PhaseKind]

    def __init__(self, run: Experiment, title: str) -> None:
        self.title = title
        self.comparisons: list[Comparison] = []
        # Those that the document foretold and our account of the kernel did not.
        self.against_our_account: list[Judgement] = []
        self._run = run
        self._notes: dict[str, Note] = {}
        self._series: dict[str, Series] = {}
        self._knobs: dict[str, dict[str, Knob]] = {}
        self._counters: dict[str, dict[str, Moved]] = {}
        self._sockets: dict[str, SocketTable] = {}
        self._interrupted = ""
        self._before: dict[int, Counters] = {}
        self._deltas: dict[int, Delta] | None = None

    def premise(self, what: str, measured: object, wanted: object) -> None:
        """State a condition of the instrument; Broken, and the run ends here, if it is not met.

        `wanted` is a value, or a range of harness.laws.ranges. What a document says is no premise: see compare().
        """
        __tracebackhide__ = True
        met = matches(wanted, measured)
        where = "" if met else _caller()
        seen = value_of(measured)
        self.comparisons.append(Premise(storable(what), seen, wanted_of(wanted, seen), met, where))
        if not met:
            raise Broken(self._not_met(what, measured, wanted))

    def delta(self, host: Host) -> Delta:
        """How far a host's counters moved since the phase began; until its end, once it has ended."""
        if self._deltas is not None and id(host) in self._deltas:
            return self._deltas[id(host)]
        return reading.moved(self._before.get(id(host)), self._run.reader.counters(host))[0]

    def note(self, label: str, value: object) -> None:
        """Keep something else that was seen as evidence."""
        self._notes[label] = Note(storable(label), value_of(value))

    def series(self, name: str, points: Sequence[tuple[float | str, float]], *, unit: str = "", x: str = "s") -> None:
        """Keep a law or a course of time for the plots: (x, y) points, y in `unit`, x in seconds unless told.

        Where x is a name, the plot has a bar for each.
        """
        stored = tuple((value_of(at).value, value_of(y).value) for at, y in points)
        kinds = {"kind": value_of(points[0][1]).kind, "x_kind": value_of(points[0][0]).kind} if points else {}
        if x == "s" and points and not isinstance(points[0][0], str):
            kinds["x_kind"] = Kind.SECONDS
        self._series[name] = Series(storable(name), stored, unit=unit, x=x, **kinds)  # type: ignore[arg-type]

    def as_evidence(self) -> types.Phase:
        """The phase as evidence."""
        return types.Phase(
            self.kind,
            storable(self.title),
            tuple(self.comparisons[:COMPARISONS_KEPT]),
            self._knobs,
            self._counters,
            self._sockets,
            tuple(self._notes.values()),
            tuple(self._series.values()),
            storable(self._interrupted)[:500],
            max(0, len(self.comparisons) - COMPARISONS_KEPT),
        )

    def __enter__(self) -> Self:
        self._run.begin(self)
        for host in self._run.hosts().values():
            self._before[id(host)] = self._run.reader.counters(host)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._interrupted = f"{type(error).__name__}: {error}"
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
        after = {name: self._run.reader.counters(host) for name, host in hosts.items()}
        for name, host in hosts.items():
            self._deltas[id(host)], changed = reading.moved(self._before.get(id(host)), after[name])
            if changed:
                self._counters[name] = changed
            self._keep_knobs(name, host.sysctl.changed)
            table = reading.socket_table(host, self._run.reader)
            if table.total:
                self._sockets[name] = table
        for lab in self._run.labs:
            self._keep_knobs("machine", lab.machine_sysctl.changed)

    def _keep_knobs(self, host: str, changed: dict[str, tuple[str, str]]) -> None:
        if changed:
            self._knobs[host] = {name: Knob(*values) for name, values in changed.items()}

    def _not_met(self, what: str, measured: object, wanted: object) -> str:
        return f"{self.kind} {self.title!r}: {what}: measured {measured!r}, must be {wanted!r}"


class Control(LivePhase):
    """The same measurement with the cause removed: all that it measures must be as wanted."""

    kind = PhaseKind.CONTROL

    def expect(self, what: str, measured: object, wanted: object) -> None:
        """State what is seen without the cause; Broken, and the run ends here, if it is not.

        `wanted` is a value, or a range of harness.laws.ranges.
        """
        __tracebackhide__ = True
        met = matches(wanted, measured)
        where = "" if met else _caller()
        seen = value_of(measured)
        self.comparisons.append(Check(storable(what), seen, wanted_of(wanted, seen), met, where))
        if not met:
            raise Broken(self._not_met(what, measured, wanted))


class Effect(LivePhase):
    """The measurement with the cause present."""

    kind = PhaseKind.EFFECT

    def compare(self, what: str, measured: object, *, document: object, kernel: object = _SAME) -> None:
        """Compare a measurement with what the document says and with our account of the kernel.

        The document's value supports "holds", the kernel's "refuted" (one that is both is the document's); neither
        makes the run fail at its end as unexplained. In a claim that is refuted, as expected, a measurement that is the
        document's alone makes it fail as unexpected: there, too, the kernel is another than we say. Each is a value or
        a range of harness.laws.ranges; `kernel` is the document's unless given.
        """
        if kernel is _SAME:
            kernel = document
        result = Result.NEITHER
        if matches(document, measured):
            result = Result.DOCUMENT
        elif matches(kernel, measured):
            result = Result.KERNEL
        where = _caller() if result is Result.NEITHER else ""
        seen = value_of(measured)
        sides = wanted_of(document, seen), wanted_of(kernel, seen)
        judgement = Judgement(storable(what), seen, *sides, result, where)
        self.comparisons.append(judgement)
        if result is Result.DOCUMENT and not matches(kernel, measured):
            self.against_our_account.append(judgement)

    def expect(self, what: str, measured: object, wanted: object) -> None:
        """premise(), by its name of before."""
        __tracebackhide__ = True
        renamed("effect.expect()", "effect.premise()")
        self.premise(what, measured, wanted)


def _caller() -> str:
    """Where the scenario compared: the file and line outside this module."""
    frame = sys._getframe(1)  # noqa: SLF001 - the public inspect.stack() reads source files
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def __getattr__(name: str) -> object:
    """The name of before, for one release."""
    if name != "Phase":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    renamed("harness.claims.phases.Phase", "LivePhase")
    return LivePhase
