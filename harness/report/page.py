"""The report: one HTML file with the matrix of claims and kernels, and a part for each claim; it needs nothing else.

What stands behind a cell (phases, counters, diagrams) is much, and mostly not looked at: it is kept deflated in the
page and unfolded when a reader opens it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
import zlib
from collections import Counter
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from harness.claims.data import covers
from harness.claims.render import NOISE
from harness.claims.stored import rounded
from harness.errors import BadInput, Unsupported
from harness.laws.kernel import KernelVersion
from harness.observe.pcapng import read_pcapng
from harness.report import ladder, plots, tables
from harness.report.reproduce import command
from harness.report.sightings import exchanges
from harness.report.stored import LOUD, STATES, Cell, Column, Row, Run, Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Environment

    from harness.claims.documents import Document
    from harness.report.changes import Comparison
    from harness.report.sightings import Exchange

# A shape for each state, so that nobody needs to tell the colours apart.
GLYPHS = {
    "holds": "✓",
    "refuted": "✗",
    "not applicable": "–",
    "not settled": "?",
    **dict.fromkeys(LOUD, "‼"),
}
# Counters of segments that came and had no effect.
DROPS = re.compile(r"TcpExt\.(?:\w*(?:Drops?|Overflows|Rejected|DoCookies)|PAWS\w*)")
# Of a flood with a thousand sources nobody looks at a thousand diagrams.
MOST_DIAGRAMS = 24
# In this order counters are shown.
GROUPS = ("TcpExt", "Tcp", "IpExt")
# What a comparison's result is called.
RESULTS = {
    "document": ("✓", "as the document says"),
    "kernel": ("✗", "not as the document says"),
    "neither": ("‼", "unexplained"),
    "met": ("✓", "met"),
    "not met": ("‼", "not met"),
}


def render(table: Table, documents: Mapping[str, Document] | None = None) -> str:
    """The whole page. `documents` give the titles for the filter, where they are known."""
    environment = _environment()
    script, style = _asset("report.js"), _asset("report.css")
    rows = [_row(row, table) for row in table.rows]
    columns = [_column(column, index, table) for index, column in enumerate(table.columns)]
    view = {
        "table": table,
        "title": _title(table),
        "rows": rows,
        "columns": columns,
        "states": [state for state in STATES if any(cell.state == state for _, _, cell in table.cells())],
        "counts": Counter(cell.state for _, _, cell in table.cells()),
        "findings": [(row, column, cell) for row, column, cell in table.cells() if cell.state in LOUD],
        "groups": list(dict.fromkeys(row.group for row in table.rows)),
        "documents": _documents(table, documents or {}),
        "packed": [*_packed_claims(rows, columns, environment), *_packed_cells(table, environment)],
        "when": _when(table),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "style": style,
    }
    return environment.get_template("report.html.jinja").render(view)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("harness.report", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"value": spelled, "anchor": anchor, "slug": slug, "seconds": _seconds}
    environment.globals |= {"glyphs": GLYPHS, "results": RESULTS, "loud": LOUD, "counter_rows": tables.counters,
                            "socket_rows": tables.sockets}  # fmt: skip
    return environment


@cache
def _asset(name: str) -> str:
    return (resources.files("harness.report") / "templates" / name).read_text(encoding="utf-8")


def slug(state: str) -> str:
    """A state as the name of a class."""
    return state.replace(" ", "-") if state in STATES else "other"


def anchor(name: str) -> str:
    """Where a claim's part is."""
    return f"claim-{name}"


def spelled(value: object) -> str:
    """A measured value as a reader wants it: text as it is, numbers rounded, the rest as JSON; all of it."""
    if isinstance(value, str):
        return value
    return json.dumps(rounded(value), ensure_ascii=False)


def _seconds(value: object) -> str:
    if not isinstance(value, (int, float)):
        return ""
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.1f} s"


def _title(table: Table) -> str:
    versions = list(dict.fromkeys(column.version for column in table.columns))
    if len(versions) > 4:
        return f"{len(table.rows)} claims about TCP on {len(versions)} Linux kernels, {versions[0]} to {versions[-1]}"
    return f"{len(table.rows)} claims about TCP on Linux {', '.join(versions)}"


def _when(table: Table) -> str:
    stamps = [run.data.get("started") for _, _, cell in table.cells() for run in cell.runs]
    known = [float(one) for one in stamps if isinstance(one, (int, float)) and 0 < one < 1 << 33]
    if not known:
        return ""
    first, last = (time.strftime("%Y-%m-%d %H:%M", time.gmtime(one)) for one in (min(known), max(known)))
    return f"{first} UTC" if first == last else f"{first} to {last} UTC"


def _documents(table: Table, known: Mapping[str, Document]) -> list[tuple[str, str]]:
    ids = {str(source.get("document")) for row in table.rows for source in _sources(row)}
    return [(one, f"{one} {known[one].title}" if one in known else one) for one in sorted(ids)]


def _sources(row: Row) -> list[dict[str, Any]]:
    return [source for source in row.claim.get("sources", []) if isinstance(source, dict)]


def _column(column: Column, index: int, table: Table) -> dict[str, Any]:
    counts = Counter(row.cells[column].state for row in table.rows if column in row.cells)
    return {"index": index, "it": column, "counts": [(state, counts[state]) for state in STATES if counts[state]]}


def _row(row: Row, table: Table) -> dict[str, Any]:
    sources = _sources(row)
    expectations = [one for one in row.claim.get("expectations", []) if isinstance(one, dict)]
    states = [row.cells[column].state if column in row.cells else "" for column in table.columns]
    words = [row.name, row.claim.get("statement"), *(one.get("heading") for one in sources)]
    words += [one.get("because") for one in expectations] + [one.get("commit") for one in expectations]
    return {
        "it": row,
        "name": row.name,
        "group": row.group,
        "statement": str(row.claim.get("statement", "")),
        "sources": sources,
        "documents": " ".join(sorted({str(one.get("document")) for one in sources})),
        "states": states,
        "text": " ".join(str(word) for word in words if word).lower(),
        "expectations": [_expectation(one, row) for one in expectations],
        "first": _first_to_show(states),
    }


def _first_to_show(states: list[str]) -> int:
    """Which kernel's part opens first: the loudest, and of those the newest."""
    known = [
        (STATES.index(state) if state in LOUD else len(LOUD), -index) for index, state in enumerate(states) if state
    ]
    return -min(known)[1] if known else 0


def _expectation(one: dict[str, Any], row: Row) -> dict[str, Any]:
    """A range of kernels with its boundary, and the kernels of this report that it covers."""
    here = [(column, cell) for column, cell in row.cells.items() if _covered(one, column)]
    return {
        "verdict": str(one.get("verdict", "")).replace("-", " "),
        "kernels": str(one.get("kernels", "")),
        "because": str(one.get("because", "")),
        "commit": str(one.get("commit", "")),
        "subject": str(one.get("subject", "")),
        "release": str(one.get("release", "")),
        "tool": str(one.get("tool", "")),
        "here": sorted(here, key=lambda pair: pair[0].order),
    }


def _covered(one: dict[str, Any], column: Column) -> bool:
    try:
        return covers(str(one.get("kernels", "")), KernelVersion.parse(column.version))
    except BadInput:
        return False


def _packed_claims(
    rows: list[dict[str, Any]], columns: list[dict[str, Any]], environment: Environment
) -> list[tuple[str, str]]:
    """What a claim's part begins with, by the number of its row."""
    template = environment.get_template("claim.html.jinja")
    return [
        (str(index), _packed(template.render(row=row, columns=columns, index=index))) for index, row in enumerate(rows)
    ]


def _packed_cells(table: Table, environment: Environment) -> list[tuple[str, str]]:
    """Each cell's part by its place, "row-column"."""
    template = environment.get_template("cell.html.jinja")
    return [
        (f"{index}-{table.columns.index(column)}", _packed(template.render(cell_view(row, column, cell))))
        for index, row in enumerate(table.rows)
        for column, cell in row.cells.items()
    ]


def _packed(part: str) -> str:
    """A part of the page deflated, in base64."""
    deflated = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return base64.b64encode(deflated.compress(part.encode(errors="replace")) + deflated.flush()).decode()


def cell_view(row: Row, column: Column, cell: Cell) -> dict[str, Any]:
    """What the part of a cell shows."""
    return {
        "name": row.name,
        "column": column,
        "cell": cell,
        "command": command(row.name, cell.runs),
        "runs": [_run(run, row) for run in cell.runs],
        "plots": _plots(cell),
    }


def _plots(cell: Cell) -> list[str]:
    several = len(cell.runs) > 1
    series = [curve for run in cell.runs for curve in plots.curves(run.data, run_label(run) if several else "")]
    try:
        return plots.draw(series)
    except Unsupported as error:
        from markupsafe import escape

        return [f'<p class="notice">{escape(str(error))}</p>']


def run_label(run: Run) -> str:
    """What tells a run from the others of its cell, in a legend: the parameters, without the kernel."""
    return run.which.partition("[")[2].rstrip("]") or run.which


def _run(run: Run, row: Row) -> dict[str, Any]:
    phases = [_phase(one) for one in run.data["phases"]]
    return {
        "it": run,
        "which": run.which,
        "state": run.state,
        "verdict": str(run.data.get("verdict") or "").replace("-", " "),
        "expected": str(run.data.get("expected") or "").replace("-", " "),
        "reason": str(run.data.get("reason") or ""),
        "duration": run.data.get("duration"),
        "command": command(row.name, (run,)),
        "absence": run.data.get("absence") if isinstance(run.data.get("absence"), dict) else None,
        "sides": [(kind, [one for one in phases if one["kind"] == kind]) for kind in ("effect", "control")],
        "left_out": run.data.get("phases_left_out", 0),
        "ladders": _ladders(run),
    }


def _phase(phase: dict[str, Any]) -> dict[str, Any]:
    counters = {
        host: sorted(_counters(moved), key=lambda one: (one["noise"], _rank(one["name"])))
        for host, moved in _mapping(phase.get("counters")).items()
    }
    bad = any(_mapping(one).get("result") in ("neither", "not met") for one in phase.get("comparisons", []))
    return {
        "kind": str(phase.get("kind")),
        "title": str(phase.get("title", "")),
        "interrupted": str(phase.get("interrupted", "")),
        "comparisons": [_comparison(one) for one in phase.get("comparisons", []) if isinstance(one, dict)],
        "left_out": phase.get("comparisons_left_out", 0),
        "knobs": {host: _mapping(knobs) for host, knobs in _mapping(phase.get("knobs")).items()},
        "counters": counters,
        "sockets": {host: _sockets(table) for host, table in _mapping(phase.get("sockets")).items()},
        "notes": _mapping(phase.get("notes")),
        "bad": bad,
    }


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _comparison(one: dict[str, Any]) -> dict[str, Any]:
    result = str(one.get("result"))
    glyph, told = RESULTS.get(result, ("?", result))
    sides: list[tuple[str, Any]] = [(side, one[side]) for side in ("document", "kernel", "wanted") if side in one]
    if len(sides) == 2 and sides[0][1] == sides[1][1]:
        sides = [("both", sides[0][1])]
    where = str(one.get("where", ""))
    return {"what": str(one.get("what")), "measured": one.get("measured"), "sides": sides, "result": result,
            "glyph": glyph, "told": told, "where": where}  # fmt: skip


def _counters(moved: object) -> list[dict[str, Any]]:
    return [
        {"name": name, "before": row[0], "after": row[1], "delta": row[2], "noise": name.endswith(NOISE)}
        for name, row in _mapping(moved).items()
        if isinstance(row, list) and len(row) == 3
    ]


def _rank(counter: str) -> int:
    """TCP's own counters stand before IP's, and those that say why before those that only count segments."""
    group = counter.partition(".")[0]
    return GROUPS.index(group) if group in GROUPS else len(GROUPS)


def _sockets(table: object) -> dict[str, Any]:
    found = _mapping(table)
    rows = [row for row in found.get("rows", []) if isinstance(row, list) and len(row) == 6]
    return {"states": _mapping(found.get("states")), "rows": rows, "more": _int(found.get("total")) - len(rows)}


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0


def _ladders(run: Run) -> dict[str, Any] | None:
    """The diagrams of a run's capture; why there are none, if the file is gone or empty."""
    file = run.packets
    if file is None:
        return None
    try:
        recording = read_pcapng(file.read_bytes())
    except OSError as error:
        return {"file": file.name, "trouble": f"cannot be read: {error.strerror}", "drawn": [], "more": 0}
    trouble = "" if recording.whole else "is not whole: the packets before the cut are shown"
    rules = run.data.get("impairments")
    found = exchanges(recording.packets, run.data["phases"], rules if isinstance(rules, list) else ())
    drawn = [_drawn(one, run) for one in found[:MOST_DIAGRAMS]]
    return {"file": file.name, "trouble": trouble, "drawn": drawn, "more": len(found) - len(drawn)}


def _counted_drops(exchange: Exchange, phases: list[dict[str, Any]]) -> list[str]:
    """What the kernel itself counted as dropped at the hosts of an exchange, in these phases."""
    found: Counter[tuple[str, str]] = Counter()
    for phase in phases:
        for host in exchange.lanes:
            for one in _counters(_mapping(phase.get("counters")).get(host)):
                if DROPS.fullmatch(one["name"]):
                    found[host, one["name"]] += _int(one["delta"])
    return [f"{name.partition('.')[2]} {by:+d} at {host}" for (host, name), by in found.items()]


def _drawn(exchange: Exchange, run: Run) -> dict[str, Any]:
    address, port = exchange.service
    place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    phases = run.data["phases"]
    listening = [one for one in phases if any(str(row[3]) == place and row[0] == "LISTEN" for row in _socket_rows(one))]
    # A listener is there in the phases after its own, too.
    its = listening[0] if listening else None
    return {
        "place": place,
        "phase": f"{its.get('kind')}: {its.get('title')}" if its else "",
        "counted": _counted_drops(exchange, [its] if its else phases),
        "svg": ladder.draw(exchange),
        "lines": list(ladder.lines(exchange)),
        "segments": len(exchange.arrows),
        "more": max(0, len(exchange.arrows) - ladder.ARROWS_DRAWN),
        "dropped": sum(bool(arrow.fate) for arrow in exchange.arrows),
        "lanes": exchange.lanes,
    }


def _socket_rows(phase: dict[str, Any]) -> list[list[Any]]:
    tables = _mapping(phase.get("sockets")).values()
    return [row for table in tables for row in _sockets(table)["rows"]]


def render_comparison(found: Comparison) -> str:
    """The page that shows what differs between two kernels or runs."""
    before, after = (side.label for side in found.sides)
    view = {"it": found, "before": before, "after": after, "style": _asset("report.css")}
    return _environment().get_template("diff.html.jinja").render(view)
