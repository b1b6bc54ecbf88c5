"""A packet exchange as a ladder diagram: lanes for hosts, an arrow for each segment, a cross where one was dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from markupsafe import escape

from harness.report.arrows import WRAP, Arrow, Exchange, Fate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Point = tuple[float, float]

# In units of the drawing, which are pixels at its full size.
LEFT, LANE_GAP, TOP, ROW, PAUSE, RIGHT = 84, 480, 46, 30, 22, 96
LOOSE_LANE_GAP = 320
SLANT = 7
ARROWS_DRAWN = 150
LONG_PAUSE = 0.15

NAMES = {"S": "SYN", "F": "FIN", "R": "RST", "P": "PSH", "A": "ACK", "U": "URG", "E": "ECE", "C": "CWR", "N": "NS"}
# Of each fate: the word at the arrow, and the sentence about it.
WORDS = {
    Fate.TAKEN: ("lost by the scenario", "a rule of the scenario at {target} dropped it"),
    Fate.HELD: ("held by the scenario", "the scenario held it at {target}, to let it go later"),
    Fate.DROPPED: ("dropped", "it reached {target} and had no effect there: {again}"),
    Fate.LOST: ("lost", "it left {source} and never reached {target}"),
    Fate.IGNORED: ("not heeded", "it reached the crafted peer at {target}, which sent the same again"),
    Fate.UNANSWERED: ("unanswered", "it left {source}, and {target} acted as if it had not come: {again}"),
}
# How far towards the other lane an arrow goes.
REACH = {Fate.LOST: 0.5, Fate.DROPPED: 0.985, Fate.TAKEN: 0.93, Fate.HELD: 0.93, Fate.UNANSWERED: 0.93}


def draw(exchange: Exchange) -> str:
    """The diagram as SVG; colours are CSS variables of the page, and every mark is a shape or a word as well."""
    arrows = exchange.arrows[:ARROWS_DRAWN]
    gap = LANE_GAP if len(exchange.lanes) <= 2 else LOOSE_LANE_GAP
    lanes = {lane: LEFT + 64 + place * gap for place, lane in enumerate(exchange.lanes)}
    rows = _rows(arrows)
    width = max(lanes.values(), default=0) + RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {rows.height}" width="{width}"'
        f' height="{rows.height}" class="ladder" role="img"><title>{escape(_title(exchange))}</title>'
    ]
    for lane, x in lanes.items():
        parts += [_text(x, 18, lane, "lane-name"), _line((x, 28), (x, rows.height - 8), "lane")]
    for pause, y in rows.pauses:
        parts += [_line((x, y - PAUSE), (x, y), "pause") for x in lanes.values()]
        parts.append(_text(LEFT - 6, y - 6, f"⋮ {_seconds(pause)}", "pause-length", anchor="end"))
    start = arrows[0].time if arrows else 0.0
    for arrow, y in zip(arrows, rows.places, strict=True):
        parts.append(_text(LEFT - 6, y + 4, _clock(arrow.time - start), "time", anchor="end"))
        parts += _arrow(arrow, lanes, y, ports_outside=len(lanes) <= 2)
    return "".join([*parts, "</svg>"])


class _Rows(NamedTuple):
    """Where each arrow begins, where time passed without any, and how high that makes the diagram."""

    places: list[int]
    pauses: list[tuple[float, int]]
    height: int


def _rows(arrows: Sequence[Arrow]) -> _Rows:
    places: list[int] = []
    pauses: list[tuple[float, int]] = []
    y = TOP
    for index, arrow in enumerate(arrows):
        if index and (pause := arrow.time - arrows[index - 1].time) >= LONG_PAUSE:
            y += PAUSE
            pauses.append((pause, y - ROW // 2 + 2))
        places.append(y)
        y += ROW
    return _Rows(places, pauses, y + 4)


def _arrow(arrow: Arrow, lanes: dict[str, int], y: int, *, ports_outside: bool) -> Iterator[str]:
    begin, end = lanes[arrow.source], lanes[arrow.target]
    way = 1 if end >= begin else -1
    drop = SLANT if arrow.left is not None and arrow.came is not None else 0
    reach = REACH.get(arrow.fate, 1.0)
    tip = (begin + (end - begin) * reach, y + drop * reach)
    fate = f" {arrow.fate}" if arrow.fate else ""
    yield f'<g class="segment {_kind(arrow)}{fate}"><title>{escape(_sentence(arrow))}</title>'
    yield _line((begin, y), tip, "shaft")
    yield _head(tip, way) if arrow.fate in (Fate.ARRIVED, Fate.IGNORED) else _cross(tip, arrow.fate)
    for x, seen, at in ((begin, arrow.left, y), (end, arrow.came, y + drop)):
        if seen is not None:
            yield f'<circle cx="{x}" cy="{at}" r="2.5" class="seen"/>'
    yield _text((begin + end) / 2, y - 4 + drop / 2, _label(arrow, with_ports=not ports_outside), "label")
    if ports_outside:
        near, far = ("end", "start") if way > 0 else ("start", "end")
        yield _text(begin - 8 * way, y + 4, str(arrow.segment.sport), "port", anchor=near)
        yield _text(end + 8 * way, y + drop + 4, str(arrow.segment.dport), "port", anchor=far)
    if arrow.fate:
        yield _text(tip[0] - 12 * way, tip[1] + 12, WORDS[arrow.fate][0], "fate", anchor="end" if way > 0 else "start")
    yield "</g>"


def _head(tip: Point, way: int) -> str:
    x, y = tip
    return f'<polygon points="{x},{y} {x - 9 * way},{y - 4} {x - 9 * way},{y + 4}" class="head"/>'


def _cross(tip: Point, fate: Fate) -> str:
    x, y = tip
    if fate is Fate.UNANSWERED:
        return f'<circle cx="{x:g}" cy="{y:g}" r="4" class="open"/>'
    if fate is Fate.HELD:
        return "".join(_line((x + side, y - 6), (x + side, y + 6), "cross") for side in (-3, 3))
    return "".join(_line((x - 5, y - 5 * slope), (x + 5, y + 5 * slope), "cross") for slope in (-1, 1))


def _kind(arrow: Arrow) -> str:
    flags = arrow.segment.flags
    for flag, name in (("R", "rst"), ("S", "syn"), ("F", "fin")):
        if flag in flags:
            return name
    return "data" if arrow.segment.length else "ack"


def _label(arrow: Arrow, *, with_ports: bool) -> str:
    segment = arrow.segment
    words = [f"{segment.sport}→{segment.dport}"] if with_ports else []
    words += ["·".join(NAMES.get(flag, flag) for flag in segment.flags) or "no flags", f"seq {arrow.seq}"]
    words += [f"ack {arrow.ack}"] if "A" in segment.flags else []
    words += [f"len {segment.length}"] if segment.length else []
    words += [f"TSval {segment.tsval}"] if segment.tsval is not None and not with_ports else []
    words += [f"(again, {arrow.again + 1}.)"] if arrow.again else []
    return " ".join([*words, "(let go)"] if arrow.late else words)


def _sentence(arrow: Arrow) -> str:
    """All of a segment in a line, for who points at it, and for a reader of screens."""
    segment = arrow.segment
    base = (segment.seq - arrow.seq) % WRAP, (segment.ack - arrow.ack) % WRAP
    line = segment.line(since=segment.time, seq_base=base[0], ack_base=base[1]).partition(" ")[2]
    seen = [f"left {arrow.source}"] * (arrow.left is not None) + [f"reached {arrow.target}"] * (arrow.came is not None)
    sentence = f"{line}; seen when it {' and '.join(seen)}"
    if arrow.fate:
        again = f"{arrow.source if arrow.must_be_acknowledged else arrow.target} sent again"
        sentence += "; " + WORDS[arrow.fate][1].format(source=arrow.source, target=arrow.target, again=again)
    return sentence


def _title(exchange: Exchange) -> str:
    address, port = exchange.service
    drops = sum(arrow.fate in (Fate.DROPPED, Fate.LOST, Fate.TAKEN) for arrow in exchange.arrows)
    return f"{len(exchange.arrows)} segments to and from {address} port {port}, {drops} of them dropped or lost"


def lines(exchange: Exchange) -> Iterator[str]:
    """The same as text, a line a segment."""
    start = exchange.arrows[0].time if exchange.arrows else 0.0
    for arrow in exchange.arrows:
        yield f"{arrow.time - start:12.6f}  {arrow.source} > {arrow.target}  {_sentence(arrow)}"


def _clock(seconds: float) -> str:
    return f"{seconds * 1e3:.3f} ms" if seconds < 1 else f"{seconds:.4f} s"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds < 0.9995 else f"{seconds:.2f} s"


def _line(begin: Point, end: Point, kind: str) -> str:
    return f'<line x1="{begin[0]:g}" y1="{begin[1]:g}" x2="{end[0]:g}" y2="{end[1]:g}" class="{kind}"/>'


def _text(x: float, y: float, text: str, kind: str, *, anchor: str = "middle") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
