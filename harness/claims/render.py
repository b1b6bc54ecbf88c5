"""A run of a claim as lines to read: what was compared, the knobs, the counters that moved, the sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PACKETS_SHOWN = 40
ROWS_SHOWN = 20
# Bytes and ECN marks move with every packet and say nothing about it.
NOISE = ("Octets", "NoECTPkts", "Ect0Pkts")


def failure_lines(run: dict[str, Any], exchanges: Iterable[tuple[str, Sequence[str]]] = ()) -> list[str]:
    """What a reader of a failed run needs; `exchanges` are the captured packets, rendered, by where they were seen."""
    lines: list[str] = []
    chosen = _phases_that_matter(run)
    for index, phase in enumerate(run["phases"]):
        if index in chosen:
            lines += phase_lines(phase)
        else:
            lines.append(f"{phase['kind']}: {phase['title']}: {_as_it_should_be(len(phase['comparisons']))}")
    for place, exchange in exchanges:
        lines.append(f"packets at {place}")
        lines += [f"    {line}" for line in exchange[:PACKETS_SHOWN]]
        if len(exchange) > PACKETS_SHOWN:
            lines.append(f"    … {len(exchange) - PACKETS_SHOWN} more")
    return lines


def phase_lines(phase: dict[str, Any]) -> list[str]:
    """One phase in full."""
    lines = [f"{phase['kind']}: {phase['title']}"]
    if "interrupted" in phase:
        lines.append(f"  ended by {phase['interrupted']}")
    lines += [f"  {comparison_line(one)}" for one in phase["comparisons"]]
    for host, knobs in phase.get("knobs", {}).items():
        lines.append(f"  knobs of {host}")
        lines += [f"    {name} = {now}  (was {was})" for name, (was, now) in knobs.items()]
    for host, counters in phase.get("counters", {}).items():
        moved = {name: by for name, (_, _, by) in counters.items() if not name.endswith(NOISE)}
        if moved:
            lines.append(f"  counters of {host}")
            width = max(map(len, moved))
            lines += [f"    {name:<{width}}  {by:+d}" for name, by in moved.items()]
    for host, table in phase.get("sockets", {}).items():
        lines += [f"  {line}" for line in _socket_lines(host, table)]
    lines += [f"  {key}: {value}" for key, value in phase.get("notes", {}).items()]
    return lines


def comparison_line(one: dict[str, Any]) -> str:
    """One comparison: a mark, what, and the values."""
    if "wanted" in one:
        mark = "ok " if one["result"] == "met" else "NOT"
        return f"{mark} {one['what']}: measured {one['measured']}, must be {one['wanted']}"
    said = {"document": "as the document says", "kernel": "not what the document says", "neither": "UNEXPLAINED"}
    return (
        f"{said[one['result']]}: {one['what']}: measured {one['measured']}, "
        f"document {one['document']}, kernel {one['kernel']}"
    )


def _phases_that_matter(run: dict[str, Any]) -> set[int]:
    phases = run["phases"]
    wrong = {"neither", "not met"}
    if run["outcome"] == "unexpected":
        wrong.add("kernel" if run["verdict"] == "refuted" else "document")
    chosen = {
        index
        for index, phase in enumerate(phases)
        if "interrupted" in phase or any(one["result"] in wrong for one in phase["comparisons"])
    }
    if len(chosen) > 3:
        chosen = set(sorted(chosen)[:2]) | {max(chosen)}
    return chosen or ({len(phases) - 1} if phases else set())


def _as_it_should_be(comparisons: int) -> str:
    return f"{comparisons} comparison{'s' * (comparisons != 1)}, as it should be"


def _socket_lines(host: str, table: dict[str, Any]) -> list[str]:
    states = ", ".join(f"{n} {state}" for state, n in table["states"].items())
    lines = [f"sockets of {host}: {states}"]
    rows = [[str(cell) for cell in row] for row in table["rows"][:ROWS_SHOWN]]
    if not rows:
        return lines
    rows.insert(0, ["State", "Recv-Q", "Send-Q", "Local", "Peer", "Timer"])
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    for state, recv_q, send_q, local, peer, timer in rows:
        cells = (
            f"{state:<{widths[0]}}", f"{recv_q:>{widths[1]}}", f"{send_q:>{widths[2]}}",
            f"{local:<{widths[3]}}", f"{peer:<{widths[4]}}", timer,
        )  # fmt: skip
        lines.append(f"  {'  '.join(cells)}".rstrip())
    left = table["total"] - len(rows) + 1
    return [*lines, f"  … {left} more"] if left > 0 else lines
