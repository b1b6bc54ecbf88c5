"""The tables of a phase as HTML: a run has thousands of such rows, and a template takes its time for each.

Every text goes through escape() or cell(), for what is made of them here is Markup.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from markupsafe import Markup, escape

from harness.evidence.types import NOISE, Check, Judgement, Premise, judged
from harness.evidence.values import Kind, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.evidence.types import Comparison, Knob, Moved, Note, Phase, SocketRow, SocketTable, Wanted

Thing = TypeVar("Thing")

# What a comparison came to: a sign, and the words for it.
JUDGED = {
    "document": ("✓", "as the document says"),
    "kernel": ("✗", "not as the document says"),
    "neither": ("‼", "unexplained"),
    "met": ("✓", "met"),
    "not met": ("‼", "not met"),
}
# The comparisons of a phase stand apart by their role, in this order.
ROLES = (
    (Judgement, "Compared with the document"),
    (Check, "Checked, with the cause removed"),
    (Premise, "Premises: conditions of the instrument"),
)
# In this order counters are shown.
GROUPS = ("TcpExt", "Tcp", "IpExt")
# A text that is longer is folded.
LONG, SHOWN = 240, 200
UNITS = {Kind.SECONDS: "s", Kind.BYTES: "bytes"}


@lru_cache(maxsize=4096)
def cell(text: str) -> str:
    """A short text in a cell; most of them come again and again."""
    return str(escape(text))


def spelled(value: Wanted) -> str:
    """A measured value or what it was held against, as a reader wants it: all of it, with its unit."""
    if not isinstance(value, Value):
        return str(value)
    kinds = {part.kind for part in value.parts} if value.kind is Kind.SEVERAL else {value.kind}
    unit = value.unit or (UNITS.get(next(iter(kinds)), "") if len(kinds) == 1 else "")
    return f"{value} {unit}" if unit else str(value)


def long(text: str) -> str:
    """A value, folded where it is long."""
    if len(text) <= LONG:
        return f"<samp>{escape(text)}</samp>"
    return (
        f"<details class=long><summary><samp>{escape(text[:SHOWN])}…</samp></summary>"
        f"<samp>{escape(text)}</samp></details>"
    )


def comparisons(phase: Phase) -> Markup:
    """What was compared, by role: mark, what, measured, should be."""
    parts = []
    for role, heading in ROLES:
        rows = [_comparison(each) for each in phase.comparisons if isinstance(each, role)]
        if rows:
            parts.append(
                f'<tbody class="role-{role.__name__.lower()}"><tr><th></th><th scope=rowgroup>{heading}</th>'
                f"<th>Measured</th><th>Should be</th></tr>{''.join(rows)}</tbody>"
            )
    return Markup(f'<table class="comparisons">{"".join(parts)}</table>' if parts else "")


def _comparison(comparison: Comparison) -> str:
    result = judged(comparison)
    sign, words = JUDGED[result]
    where = f" <span class=dim>{cell(comparison.where)}</span>" if comparison.where else ""
    sides = "".join(
        f'<span class="side">{f"<span class=dim>{name}</span> " if name else ""}{long(spelled(side))}</span>'
        for name, side in _sides(comparison)
    )
    return (
        f'<tr class="r-{result.replace(" ", "-")}"><td class="mark" title="{words}">'
        f'<span aria-hidden="true">{sign}</span>'
        f'<span class="unseen">{words}</span></td><td class="what">{cell(comparison.what)}{where}</td>'
        f'<td class="measured">{long(spelled(comparison.measured))}</td><td>{sides}</td></tr>'
    )


def _sides(comparison: Comparison) -> list[tuple[str, Wanted]]:
    """What it was held against, by whose account that is."""
    if not isinstance(comparison, Judgement):
        return [("", comparison.wanted)]
    if comparison.document == comparison.kernel:
        return [("both", comparison.document)]
    return [("document", comparison.document), ("kernel", comparison.kernel)]


def knobs(by_host: Mapping[str, Mapping[str, Knob]]) -> Markup:
    """Rows of host, sysctl, before, in force."""
    return Markup("".join(_rows(by_host, _knob)))


def _knob(name: str, knob: Knob) -> str:
    changed = ' class="changed"' if knob.before != knob.now else ""
    return f"<td><code>{cell(name)}</code></td><td>{cell(knob.before)}</td><td{changed}>{cell(knob.now)}</td></tr>"


def counters(by_host: Mapping[str, Mapping[str, Moved]]) -> Markup:
    """Rows of host, counter, before, after, delta; those that say most first."""
    return Markup(
        "".join(_rows({host: dict(sorted(moved.items(), key=_rank)) for host, moved in by_host.items()}, _counter))
    )


def _rank(counter: tuple[str, Moved]) -> tuple[bool, int]:
    """TCP's own counters stand before IP's, and those that say why before those that only count segments."""
    group = counter[0].partition(".")[0]
    return counter[0].endswith(NOISE), GROUPS.index(group) if group in GROUPS else len(GROUPS)


def _counter(name: str, moved: Moved) -> str:
    noise = " class=dim" if name.endswith(NOISE) else ""
    return (
        f"<td{noise}><code>{cell(name)}</code></td><td class=n>{moved.before}</td><td class=n>{moved.after}</td>"
        f'<td class="n delta">{moved.by:+d}</td></tr>'
    )


def _rows(by_host: Mapping[str, Mapping[str, Thing]], row: Callable[[str, Thing], str]) -> Iterator[str]:
    """The rows of each host, whose name stands in the first."""
    for host, things in by_host.items():
        start = f"<tr><td>{cell(host)}</td>"
        for name, thing in things.items():
            yield start + row(name, thing)
            start = "<tr><td></td>"


def sockets(by_host: Mapping[str, SocketTable]) -> Markup:
    """Rows of host, state, Recv-Q, Send-Q, local, peer, timer; how many more there were."""
    parts = []
    for host, table in by_host.items():
        start = f"<tr><td>{cell(host)}</td>"
        for row in table.rows:
            parts.append(start + _socket(row))
            start = "<tr><td></td>"
        if (more := table.total - len(table.rows)) > 0:
            parts.append(f"{start}<td colspan=6 class=dim>{more} more</td></tr>")
    return Markup("".join(parts))


def _socket(row: SocketRow) -> str:
    timer = "" if row.timer is None else cell(str(row.timer))
    return (
        f"<td>{cell(row.state)}</td><td class=n>{row.recv_q}</td><td class=n>{row.send_q}</td>"
        f"<td>{cell(str(row.local))}</td><td>{cell(str(row.peer))}</td><td>{timer}</td></tr>"
    )


def notes(seen: tuple[Note, ...]) -> Markup:
    """What else was seen."""
    return Markup("".join(f"<dt>{escape(note.label)}</dt><dd>{long(spelled(note.value))}</dd>" for note in seen))
