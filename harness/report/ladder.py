"""A packet exchange as a ladder diagram: lanes for hosts, an arrow for each segment, a cross where one was dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from harness.report.sightings import Arrow, Exchange, Fate

if TYPE_CHECKING:
    from collections.abc import Iterator

# In units of the drawing, which are pixels at its full size.
LEFT, LANE_GAP, TOP, ROW, PAUSE, RIGHT = 84, 480, 46, 30, 22, 96
LOOSE_LANE_GAP = 320
SLANT = 7
ARROWS_DRAWN = 150
LONG_PAUSE = 0.15

NAMES = {"S": "SYN", "F": "FIN", "R": "RST", "P": "PSH", "A": "ACK", "U": "URG", "E": "ECE", "C": "CWR", "N": "NS"}
TOLD = {
    Fate.TAKEN: ("lost by the scenario", "a rule of the scenario at {target} dropped it"),
    Fate.HELD: ("held by the scenario", "the scenario held it at {target}, to let it go later"),
    Fate.DROPPED: ("dropped", "it reached {target} and had no effect there: {again}"),
    Fate.LOST: ("lost", "it left {source} and never reached {target}"),
    Fate.IGNORED: ("not heeded", "it reached the crafted peer at {target}, which sent the same again"),
    Fate.UNANSWERED: ("unanswered", "it left {source}, and {target} acted as if it had not come: {again}"),
}


def draw(exchange: Exchange) -> str:
    """The diagram as SVG; colours are CSS variables of the page, and every mark is a shape or a word as well."""
    arrows = exchange.arrows[:ARROWS_DRAWN]
    gap = LANE_GAP if len(exchange.lanes) <= 2 else LOOSE_LANE_GAP
    lanes = {lane: LEFT + 64 + index * gap for index, lane in enumerate(exchange.lanes)}
    rows, height = _rows(arrows)
    width = max(lanes.values(), default=0) + RIGHT
    root = ET.Element(
        "svg", {"viewBox": f"0 0 {width} {height}", "width": str(width), "height": str(height), "class": "ladder",
                "role": "img", "xmlns": "http://www.w3.org/2000/svg"},
    )  # fmt: skip
    ET.SubElement(root, "title").text = _title(exchange)
    for lane, x in lanes.items():
        _text(root, x, 18, lane, "lane-name")
        _line(root, (x, 28), (x, height - 8), "lane")
    for pause, y in rows.pauses:
        for x in lanes.values():
            _line(root, (x, y - PAUSE), (x, y), "pause")
        _text(root, LEFT - 6, y - 6, f"⋮ {_seconds(pause)}", "pause-length", anchor="end")
    start = arrows[0].time if arrows else 0.0
    for arrow, y in zip(arrows, rows.at, strict=True):
        _text(root, LEFT - 6, y + 4, _clock(arrow.time - start), "time", anchor="end")
        _arrow(root, arrow, lanes, y, ports_outside=len(lanes) <= 2)
    return ET.tostring(root, encoding="unicode")


class _Rows:
    def __init__(self) -> None:
        self.at: list[int] = []
        self.pauses: list[tuple[float, int]] = []


def _rows(arrows: list[Arrow]) -> tuple[_Rows, int]:
    """Where each arrow begins, and where time passed without any."""
    rows, y = _Rows(), TOP
    for index, arrow in enumerate(arrows):
        if index and (pause := arrow.time - arrows[index - 1].time) >= LONG_PAUSE:
            y += PAUSE
            rows.pauses.append((pause, y - ROW // 2 + 2))
        rows.at.append(y)
        y += ROW
    return rows, y + 4


def _arrow(root: ET.Element, arrow: Arrow, lanes: dict[str, int], y: int, *, ports_outside: bool) -> None:
    begin, end = lanes[arrow.source], lanes[arrow.target]
    way = 1 if end >= begin else -1
    group = ET.SubElement(root, "g", {"class": f"segment {_kind(arrow)}{' ' + arrow.fate if arrow.fate else ''}"})
    ET.SubElement(group, "title").text = _told(arrow)
    drop = SLANT if arrow.left is not None and arrow.came is not None else 0
    reach = {Fate.LOST: 0.5, Fate.DROPPED: 0.985, Fate.TAKEN: 0.93, Fate.HELD: 0.93, Fate.UNANSWERED: 0.93}.get(
        arrow.fate, 1.0
    )
    tip = (begin + (end - begin) * reach, y + drop * reach)
    _line(group, (begin, y), tip, "shaft")
    if arrow.fate in (Fate.ARRIVED, Fate.IGNORED):
        points = f"{tip[0]},{tip[1]} {tip[0] - 9 * way},{tip[1] - 4} {tip[0] - 9 * way},{tip[1] + 4}"
        ET.SubElement(group, "polygon", {"points": points, "class": "head"})
    else:
        _cross(group, tip, arrow.fate)
    for x, seen, at in ((begin, arrow.left, y), (end, arrow.came, y + drop)):
        if seen is not None:
            ET.SubElement(group, "circle", {"cx": str(x), "cy": str(at), "r": "2.5", "class": "seen"})
    _text(group, (begin + end) / 2, y - 4 + drop / 2, _label(arrow, with_ports=not ports_outside), "label")
    if ports_outside:
        _text(group, begin - 8 * way, y + 4, str(arrow.segment.sport), "port", anchor="end" if way > 0 else "start")
        _text(
            group, end + 8 * way, y + drop + 4, str(arrow.segment.dport), "port", anchor="start" if way > 0 else "end"
        )
    if arrow.fate:
        _text(group, tip[0] - 12 * way, tip[1] + 12, TOLD[arrow.fate][0], "fate", anchor="end" if way > 0 else "start")


def _cross(group: ET.Element, at: tuple[float, float], fate: Fate) -> None:
    x, y = at
    if fate is Fate.UNANSWERED:
        ET.SubElement(group, "circle", {"cx": f"{x:g}", "cy": f"{y:g}", "r": "4", "class": "open"})
        return
    if fate is Fate.HELD:
        for side in (-3, 3):
            _line(group, (x + side, y - 6), (x + side, y + 6), "cross")
        return
    for slope in (-1, 1):
        _line(group, (x - 5, y - 5 * slope), (x + 5, y + 5 * slope), "cross")


def _kind(arrow: Arrow) -> str:
    flags = arrow.segment.flags
    return next((name for flag, name in (("R", "rst"), ("S", "syn"), ("F", "fin")) if flag in flags),
                "data" if arrow.segment.length else "ack")  # fmt: skip


def _label(arrow: Arrow, *, with_ports: bool) -> str:
    segment = arrow.segment
    words = [f"{segment.sport}→{segment.dport}"] if with_ports else []
    words += ["·".join(NAMES.get(flag, flag) for flag in segment.flags) or "no flags", f"seq {arrow.seq}"]
    words += [f"ack {arrow.ack}"] if "A" in segment.flags else []
    words += [f"len {segment.length}"] if segment.length else []
    words += [f"TSval {segment.tsval}"] if segment.tsval is not None and not with_ports else []
    words += [f"(again, {arrow.again + 1}.)"] if arrow.again else []
    return " ".join([*words, "(let go)"] if arrow.late else words)


def _told(arrow: Arrow) -> str:
    """All of a segment in a line, for who points at it, and for a reader of screens."""
    segment = arrow.segment
    base = (segment.seq - arrow.seq) % (1 << 32), (segment.ack - arrow.ack) % (1 << 32)
    line = segment.line(since=segment.time, seq_base=base[0], ack_base=base[1]).partition(" ")[2]
    seen = [f"left {arrow.source}"] * (arrow.left is not None) + [f"reached {arrow.target}"] * (arrow.came is not None)
    told = f"{line}; seen when it {' and '.join(seen)}"
    if arrow.fate:
        again = f"{arrow.target if arrow.must_be_acknowledged is False else arrow.source} sent again"
        told += "; " + TOLD[arrow.fate][1].format(source=arrow.source, target=arrow.target, again=again)
    return told


def _title(exchange: Exchange) -> str:
    address, port = exchange.service
    drops = sum(arrow.fate in (Fate.DROPPED, Fate.LOST, Fate.TAKEN) for arrow in exchange.arrows)
    return f"{len(exchange.arrows)} segments to and from {address} port {port}, {drops} of them dropped or lost"


def lines(exchange: Exchange) -> Iterator[str]:
    """The same as text, a line a segment."""
    start = exchange.arrows[0].time if exchange.arrows else 0.0
    for arrow in exchange.arrows:
        yield f"{arrow.time - start:12.6f}  {arrow.source} > {arrow.target}  {_told(arrow)}"


def _clock(seconds: float) -> str:
    return f"{seconds * 1e3:.3f} ms" if seconds < 1 else f"{seconds:.4f} s"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds < 0.9995 else f"{seconds:.2f} s"


def _line(parent: ET.Element, begin: tuple[float, float], end: tuple[float, float], kind: str) -> None:
    ends = {"x1": begin[0], "y1": begin[1], "x2": end[0], "y2": end[1]}
    ET.SubElement(parent, "line", {**{key: f"{value:g}" for key, value in ends.items()}, "class": kind})


def _text(parent: ET.Element, x: float, y: float, text: str, kind: str, *, anchor: str = "middle") -> None:
    ET.SubElement(parent, "text", {"x": f"{x:g}", "y": f"{y:g}", "class": kind, "text-anchor": anchor}).text = text
