"""One part of an experiment: what the kernel's counters, knobs and sockets were, and what was compared."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from harness.claims import instruments as reading
from harness.claims.failures import Broken
from harness.claims.stored import jsonable
from harness.errors import renamed
from harness.laws.ranges import matches

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from harness.claims.record import ClaimRun
    from harness.lab.host import Host
    from harness.observe.counters import Counters, Delta

COMPARISONS_KEPT = 300

_SAME: Any = object()


class Phase:
    """One part of an experiment, a `with` block: the counters of every host at its start and its end, the sockets
    at its end, the knobs in force, and what was measured."""

    kind = "phase"

    def __init__(self, run: ClaimRun, title: str) -> None:
        self.title = title
        self.evidence: dict[str, Any] = {"kind": self.kind, "title": title}
        self.comparisons: list[dict[str, Any]] = []
        self._run = run
        self._before: dict[int, Counters] = {}
        self._deltas: dict[int, Delta] | None = None

    def premise(self, what: str, measured: object, wanted: object) -> None:
        """State a condition of the instrument; Broken, and the run ends here, if it is not met.

        `wanted` is a value, or a range of harness.laws.ranges. What a document says is no premise: see compare().
        """
        __tracebackhide__ = True
        self._must_be(what, measured, wanted)

    def _must_be(self, what: str, measured: object, wanted: object) -> None:
        __tracebackhide__ = True
        met = matches(wanted, measured)
        self._note_comparison(what, measured, "met" if met else "not met", depth=3, wanted=wanted)
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

    def series(self, name: str, points: Sequence[tuple[float | str, float]], *, unit: str = "", x: str = "s") -> None:
        """Keep a law or a course of time for the plots: (x, y) points, y in `unit`, x in seconds unless told.

        Where x is a name, the plot has a bar for each.
        """
        curve = {"x": x, "unit": unit, "points": jsonable(points)}
        self.evidence.setdefault("series", {})[name] = curve

    def as_dict(self) -> dict[str, Any]:
        """The phase as evidence."""
        evidence = self.evidence | {"comparisons": self.comparisons[:COMPARISONS_KEPT]}
        if len(self.comparisons) > COMPARISONS_KEPT:
            evidence["comparisons_left_out"] = len(self.comparisons) - COMPARISONS_KEPT
        return evidence

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
        for lab in self._run.labs:
            self._keep("knobs", "machine", {knob: list(values) for knob, values in lab.machine_sysctl.changed.items()})

    def _keep(self, part: str, host: str, value: dict[str, Any]) -> None:
        if value:
            self.evidence.setdefault(part, {})[host] = jsonable(value)

    def _note_comparison(self, what: str, measured: object, result: str, *, depth: int = 2, **sides: object) -> None:
        comparison: dict[str, Any] = {"what": what, "measured": jsonable(measured)}
        comparison |= {side: jsonable(value) for side, value in sides.items()}
        comparison["result"] = result
        if result in ("neither", "not met"):
            frame = sys._getframe(depth)  # noqa: SLF001 - the public inspect.stack() reads source files
            comparison["where"] = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        self.comparisons.append(comparison)


class Control(Phase):
    """The same measurement with the cause removed: all that it measures must be as wanted."""

    kind = "control"

    def expect(self, what: str, measured: object, wanted: object) -> None:
        """State what is seen without the cause; Broken, and the run ends here, if it is not.

        `wanted` is a value, or a range of harness.laws.ranges.
        """
        __tracebackhide__ = True
        self._must_be(what, measured, wanted)


class Effect(Phase):
    """The measurement with the cause present."""

    kind = "effect"

    def expect(self, what: str, measured: object, wanted: object) -> None:
        """premise(), by its name of before."""
        __tracebackhide__ = True
        renamed("effect.expect()", "effect.premise()")
        self._must_be(what, measured, wanted)

    def compare(self, what: str, measured: object, *, document: object, kernel: object = _SAME) -> None:
        """Compare a measurement with what the document says and with our account of the kernel.

        The document's value supports "holds", the kernel's "refuted" (one that is both is the document's); neither
        makes the run fail at its end as unexplained. Each is a value or a range of harness.laws.ranges; `kernel`
        is the document's unless given.
        """
        if kernel is _SAME:
            kernel = document
        result = "document" if matches(document, measured) else "kernel" if matches(kernel, measured) else "neither"
        self._note_comparison(what, measured, result, document=document, kernel=kernel)
