"""A comparison of many connections, sockets, packets or segments that fails shows some, whatever pytest's verbosity."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from harness.listing import SHOWN, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

# What is meant by many things, by module and name: nothing is imported for it.
ROWS = (
    *(("harness.traffic.connector", name) for name in ("Attempt", "Attempts")),
    ("harness.observe.sockets", "Socket"),
    ("harness.observe.packet", "Packet"),
    ("harness.observe.segments", "Segment"),
    ("harness.observe.ss", "Row"),
    ("harness.observe.netstat", "Row"),
    ("harness.observe.proc_tcp", "Row"),
)


def explain(operator: str, left: object, right: object) -> list[str] | None:
    """A failed comparison in which a list has many of these; None for any other, which pytest explains itself."""
    if not (_is_many(left) or _is_many(right)):
        return None
    lines = [f"{_told(left)} {operator} {_told(right)}"]
    if operator == "==" and isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        lines += _difference(left, right)
    return lines


def _difference(left: Sequence[object], right: Sequence[object]) -> list[str]:
    """Where two sequences begin to differ, and in how many rows they do."""
    lines = [] if len(left) == len(right) else [f"{len(left)} and {len(right)} of them"]
    differ = [n for n, (one, other) in enumerate(zip(left, right, strict=False)) if one != other]
    lines += [f"at {n}: {left[n]!r} and {right[n]!r}" for n in differ[:SHOWN]]
    if len(differ) > SHOWN:
        lines.append(f"and {len(differ) - SHOWN} more differ")
    return lines


def _told(side: object) -> str:
    return shown(side) if isinstance(side, (list, tuple)) else repr(side)


def _is_many(side: object) -> bool:
    if not isinstance(side, (list, tuple)) or len(side) <= SHOWN:
        return False
    kinds = tuple(getattr(sys.modules[module], name) for module, name in ROWS if module in sys.modules)
    return all(isinstance(row, kinds) for row in side)
