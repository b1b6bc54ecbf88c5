"""A run of a claim as lines to read: what was compared, the knobs, the counters that moved, the sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.evidence.types import NOISE, Judgement, Outcome, Result, Verdict, is_wrong

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.evidence.types import Comparison, Knob, Moved, Phase, Run, SocketTable

PACKETS_SHOWN = 40
ROWS_SHOWN = 20
HEADER = ("State", "Recv-Q", "Send-Q", "Local", "Peer", "Timer")


def failure_lines(run: Run, exchanges: Iterable[tuple[str, Sequence[str]]] = ()) -> list[str]:
    """What a reader of a failed run needs; `exchanges` are the captured packets, rendered, by where they were seen."""
    lines: list[str] = []
    chosen = _phases_that_matter(run)
    for number, phase in enumerate(run.phases):
        if number in chosen:
            lines += phase_lines(phase)
        else:
            lines.append(f"{phase.kind}: {phase.title}: {_as_it_should_be(len(phase.comparisons))}")
    return lines + packet_lines(exchanges)


def packet_lines(exchanges: Iterable[tuple[str, Sequence[str]]], *, shown: int = PACKETS_SHOWN) -> list[str]:
    """The first packets of each place where some were captured, `shown` of them."""
    lines: list[str] = []
    for place, exchange in exchanges:
        lines.append(f"packets at {place}")
        lines += [f"    {line}" for line in exchange[:shown]]
        if len(exchange) > shown:
            lines.append(f"    … {len(exchange) - shown} more")
    return lines


def phase_lines(phase: Phase) -> list[str]:
    """One phase in full."""
    lines = [f"{phase.kind}: {phase.title}"]
    if phase.interrupted:
        lines.append(f"  ended by {phase.interrupted}")
    lines += [f"  {comparison_line(comparison)}" for comparison in phase.comparisons]
    lines += [f"  {line}" for line in host_lines(phase.knobs, phase.counters, phase.sockets)]
    lines += [f"  {note.label}: {note.value}" for note in phase.notes]
    return lines


def host_lines(
    knobs: Mapping[str, Mapping[str, Knob]],
    counters: Mapping[str, Mapping[str, Moved]],
    sockets: Mapping[str, SocketTable],
) -> list[str]:
    """What the hosts have: the knobs that were turned, the counters that moved, the sockets."""
    lines: list[str] = []
    for host, turned in knobs.items():
        lines.append(f"knobs of {host}")
        lines += [f"  {name} = {knob.now}  (was {knob.before})" for name, knob in turned.items()]
    for host, moved in counters.items():
        lines += _counter_lines(host, moved)
    for host, table in sockets.items():
        lines += _socket_lines(host, table)
    return lines


def comparison_line(comparison: Comparison) -> str:
    """One comparison: a mark, what, and the values."""
    if not isinstance(comparison, Judgement):
        mark = "ok " if comparison.met else "NOT"
        return f"{mark} {comparison.what}: measured {comparison.measured}, must be {comparison.wanted}"
    judged = {
        Result.DOCUMENT: "as the document says",
        Result.KERNEL: "not what the document says",
        Result.NEITHER: "UNEXPLAINED",
    }
    return (
        f"{judged[comparison.result]}: {comparison.what}: measured {comparison.measured}, "
        f"document {comparison.document}, kernel {comparison.kernel}"
    )


def tells(run: Run, comparison: Comparison) -> bool:
    """Whether a comparison with a document is one of those that made an unexpected verdict."""
    if run.outcome is not Outcome.UNEXPECTED or not isinstance(comparison, Judgement):
        return False
    if run.verdict is run.expected:  # refuted, and yet somewhere as the document says where it had not to be
        return comparison.result is Result.DOCUMENT and f"{comparison.what}: {comparison.measured}," in run.reason
    return comparison.result is (Result.KERNEL if run.verdict is Verdict.REFUTED else Result.DOCUMENT)


def _phases_that_matter(run: Run) -> set[int]:
    chosen = {
        number
        for number, phase in enumerate(run.phases)
        if phase.interrupted or any(is_wrong(each) or tells(run, each) for each in phase.comparisons)
    }  # fmt: skip
    if len(chosen) > 3:
        chosen = set(sorted(chosen)[:2]) | {max(chosen)}
    return chosen or ({len(run.phases) - 1} if run.phases else set())


def _as_it_should_be(comparisons: int) -> str:
    return f"{comparisons} comparison{'s' * (comparisons != 1)}, as it should be"


def _counter_lines(host: str, counters: Mapping[str, Moved]) -> list[str]:
    telling = {name: moved.by for name, moved in counters.items() if not name.endswith(NOISE)}
    if not telling:
        return []
    width = max(map(len, telling))
    return [f"counters of {host}", *(f"  {name:<{width}}  {by:+d}" for name, by in telling.items())]


def _socket_lines(host: str, table: SocketTable) -> list[str]:
    states = ", ".join(f"{n} {state}" for state, n in table.states.items())
    lines = [f"sockets of {host}: {states}"]
    shown = table.rows[:ROWS_SHOWN]
    if not shown:
        return lines
    rows = [HEADER]
    for row in shown:
        timer = "" if row.timer is None else str(row.timer)
        rows.append((row.state, str(row.recv_q), str(row.send_q), str(row.local), str(row.peer), timer))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    for state, recv_q, send_q, local, peer, timer in rows:
        cells = (
            f"{state:<{widths[0]}}", f"{recv_q:>{widths[1]}}", f"{send_q:>{widths[2]}}",
            f"{local:<{widths[3]}}", f"{peer:<{widths[4]}}", timer,
        )  # fmt: skip
        lines.append(f"  {'  '.join(cells)}".rstrip())
    left = table.total - len(shown)
    return [*lines, f"  … {left} more"] if left > 0 else lines
