"""What stands behind a cell of the matrix: the runs of a claim on a kernel, their phases, packets and plots."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from harness import files
from harness.errors import BadInput, Unsupported
from harness.evidence.moved import attempts
from harness.evidence.types import WRONG, Outcome, PhaseKind
from harness.observe.pcapng import read_pcapng
from harness.report import ladder, plots
from harness.report.reproduce import command
from harness.report.sightings import exchanges

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.evidence.types import Phase, Run
    from harness.lab.impairment import Impairment, LineUsed
    from harness.report.arrows import Exchange
    from harness.report.table import Cell, Column, Entry, Failure, Row

# Counters of segments that came and had no effect.
DROPS = re.compile(r"TcpExt\.(?:\w*(?:Drops?|Overflows|Rejected|DoCookies)|PAWS\w*)")
# Of a flood with a thousand sources nobody looks at a thousand diagrams.
MOST_DIAGRAMS = 24
SIDES = ((PhaseKind.EFFECT, "Effect: the cause present"), (PhaseKind.CONTROL, "Control: the cause removed"))


@dataclass(frozen=True)
class Diagram:
    """A ladder, and what stands beside it."""

    service: str
    phase: str
    counted: list[str]
    svg: Markup
    lines: list[str]
    segments: int
    more: int
    without_effect: int
    lanes: list[str]


@dataclass(frozen=True)
class Packets:
    """The diagrams of a capture; `trouble` says why there are none, or not all."""

    file: str
    trouble: str
    diagrams: list[Diagram]
    more: int


@dataclass(frozen=True)
class Side:
    """The phases with the cause present, or those with it removed."""

    kind: PhaseKind
    heading: str
    phases: list[Phase]


@dataclass(frozen=True)
class RunView:
    """A run as it is shown."""

    test: str
    run: Run
    is_wrong: bool
    command: str
    sides: list[Side]
    packets: Packets | None

    @property
    def attempts(self) -> list[str]:
        """What became of the attempts before the last, where it was run again."""
        return attempts(self.run)

    @property
    def contradicts(self) -> bool:
        """Whether there is a verdict, and it is not the expected one."""
        return self.run.outcome is Outcome.UNEXPECTED


@dataclass(frozen=True)
class CellView:
    """A cell as it is shown."""

    column: Column
    cell: Cell
    command: str
    runs: list[RunView]
    plots: list[Markup]


@dataclass(frozen=True)
class FailureView:
    """A test without a claim that failed, as it is shown."""

    failure: Failure
    packets: Packets | None


def failure_view(failure: Failure) -> FailureView:
    """What the part of a failed test shows."""
    return FailureView(failure, _packets(failure.packets) if failure.packets is not None else None)


def cell_view(row: Row, column: Column, cell: Cell) -> CellView:
    """What the part of a cell shows."""
    runs = [_run(entry, row.claim.name) for entry in cell.entries]
    return CellView(column, cell, command(row.claim.name, [entry.run for entry in cell.entries]), runs, _plots(cell))


def _run(entry: Entry, claim: str) -> RunView:
    run = entry.run
    sides = [Side(kind, heading, [phase for phase in run.phases if phase.kind is kind]) for kind, heading in SIDES]
    return RunView(
        entry.test,
        run,
        run.said in WRONG,
        command(claim, [run]),
        [side for side in sides if side.phases],
        _packets(entry.packets, run.phases, run.impairments, run.lines) if entry.packets is not None else None,
    )


def _plots(cell: Cell) -> list[Markup]:
    several = len(cell.entries) > 1
    curves = [curve for entry in cell.entries for curve in plots.curves(entry.run, _label(entry) if several else "")]
    try:
        return [Markup(plot) for plot in plots.draw(curves)]
    except Unsupported as error:
        return [Markup(f'<p class="notice">{escape(str(error))}</p>')]


def _label(entry: Entry) -> str:
    """What tells a run from the others of its cell, in a legend: the parameters, without the kernel."""
    return entry.test.partition("[")[2].rstrip("]") or entry.test


def _packets(
    file: Path,
    phases: Sequence[Phase] = (),
    impairments: Sequence[Impairment] = (),
    lines: Sequence[LineUsed] = (),
) -> Packets:
    """The diagrams of a capture, by what is known of its run; why there are none, if the file is gone or empty."""
    try:
        recording = read_pcapng(files.content(file))
    except OSError as error:
        return Packets(file.name, f"cannot be read: {error.strerror}", [], 0)
    except ValueError:
        return Packets(file.name, "cannot be read: that is no name of a file", [], 0)
    except BadInput as error:
        return Packets(file.name, f"cannot be read: {error}", [], 0)
    trouble = "" if recording.whole else "is not whole: the packets before the cut are shown"
    seen = exchanges(recording.packets, phases, impairments, lines)
    drawn = [_diagram(exchange, phases) for exchange in seen[:MOST_DIAGRAMS]]
    return Packets(file.name, trouble, drawn, len(seen) - len(drawn))


def _diagram(exchange: Exchange, phases: Sequence[Phase]) -> Diagram:
    address, port = exchange.service
    # A listener is there in the phases after its own, too.
    its = next((phase for phase in phases if _listens(phase, address, port)), None)
    return Diagram(
        service=f"[{address}]:{port}" if ":" in address else f"{address}:{port}",
        phase=f"{its.kind}: {its.title}" if its else "",
        counted=_counted_drops(exchange, [its] if its else phases),
        svg=Markup(ladder.draw(exchange)),
        lines=list(ladder.lines(exchange)),
        segments=len(exchange.arrows),
        more=max(0, len(exchange.arrows) - ladder.ARROWS_DRAWN),
        without_effect=sum(bool(arrow.fate) for arrow in exchange.arrows),
        lanes=exchange.lanes,
    )


def _listens(phase: Phase, address: str, port: int) -> bool:
    return any(
        row.state == "LISTEN" and row.local.address == address and row.local.port == port
        for table in phase.sockets.values()
        for row in table.rows
    )


def _counted_drops(exchange: Exchange, phases: Sequence[Phase]) -> list[str]:
    """What the kernel itself counted as dropped at the hosts of an exchange, in these phases."""
    drops: Counter[tuple[str, str]] = Counter()
    for phase in phases:
        for host in exchange.lanes:
            for name, moved in phase.counters.get(host, {}).items():
                if DROPS.fullmatch(name):
                    drops[host, name] += moved.by
    return [f"{name.partition('.')[2]} {by:+d} at {host}" for (host, name), by in drops.items()]
