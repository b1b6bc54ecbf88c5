"""The series of a claim as plots: SVG in the colours of the page, so that it is light or dark with it."""

from __future__ import annotations

import io
import re
import warnings
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes

# matplotlib knows no CSS variable: it draws in these colours, and they are replaced in what it wrote.
INK, FAINT = "#010203", "#040506"
LINES = tuple(f"#0a0b{n:02x}" for n in range(8))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":")
WIDTH, HEIGHT = 6.4, 3.2
MOST_LINES, MOST_PANELS = 12, 6
POINTS_DRAWN = 400

Point = tuple[Any, float]


@dataclass(frozen=True)
class Curve:
    """One series: where it was taken, its name, what x and y are, and its points; x is a number or a name."""

    place: str
    name: str
    x: str
    unit: str
    points: tuple[Point, ...]

    @property
    def named(self) -> bool:
        """Whether x has names: such a series is bars."""
        return any(isinstance(x, str) for x, _ in self.points)


def curves(run: dict[str, Any], place: str = "") -> list[Curve]:
    """The series of a run's phases; one that another continues from the same start is left out."""
    found: dict[tuple[str, str], list[Curve]] = defaultdict(list)
    for phase in run["phases"]:
        series = phase.get("series", {})
        for name, one in series.items() if isinstance(series, dict) else ():
            points = _points(one)
            if points:
                where = " ".join(filter(None, (str(phase.get("kind")), place)))
                curve = Curve(where, str(name), str(one.get("x", "")), str(one.get("unit", "")), points)
                found[where, curve.name].append(curve)
    return [one for alike in found.values() for one in _longest(alike)]


def _points(series: object) -> tuple[Point, ...]:
    listed = series.get("points") if isinstance(series, dict) else None
    if not isinstance(listed, list):
        return ()
    step = max(1, len(listed) // POINTS_DRAWN)
    return tuple(
        (one[0], float(one[1]))
        for one in listed[::step]
        if isinstance(one, list) and len(one) == 2 and isinstance(one[0], (int, float, str)) and _number(one[1])
    )


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _longest(alike: Sequence[Curve]) -> list[Curve]:
    """Of series that grow from phase to phase the last."""
    kept: list[Curve] = []
    for one in alike:
        if kept and one.points[: len(kept[-1].points)] == kept[-1].points:
            kept.pop()
        kept.append(one)
    return kept


def draw(series: Iterable[Curve]) -> list[str]:
    """A plot for each pair of axes, as SVG elements; Unsupported if matplotlib is not installed."""
    panels: dict[tuple[str, str, bool], list[Curve]] = defaultdict(list)
    for curve in series:
        panels[curve.x, curve.unit, curve.named].append(curve)
    return [_panel(each[:MOST_LINES]) for each in list(panels.values())[:MOST_PANELS]]


def _panel(alike: Sequence[Curve]) -> str:
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise Unsupported("plots need matplotlib; pip install 'tcp-harness[report]'") from None
    settings: Any = {
        "svg.fonttype": "none", "svg.hashsalt": "tcp-harness", "text.parse_math": False, "axes.edgecolor": FAINT,
        "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "text.color": INK, "font.size": 10,
        "axes.spines.top": False, "axes.spines.right": False, "path.simplify": True, "grid.color": FAINT,
    }  # fmt: skip
    written = io.StringIO()
    # A glyph that matplotlib's own font lacks is no news: the reader's browser draws the text.
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Margins of a fixed size: to lay the figure out by what stands in it takes longer than to draw it.
        figure = Figure(figsize=(WIDTH, HEIGHT))
        figure.subplots_adjust(left=0.11, right=0.985, top=0.91, bottom=0.17)
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        axes.grid(visible=True, alpha=0.25, linewidth=0.6)
        (_bars if alike[0].named else _lines)(axes, alike)
        axes.set_xlabel({"s": "seconds"}.get(alike[0].x, alike[0].x))
        axes.set_ylabel({"s": "seconds"}.get(alike[0].unit, alike[0].unit))
        axes.set_ylim(bottom=min(0.0, *(y for one in alike for _, y in one.points)))
        if len(alike) > 1:
            axes.legend(frameon=False, fontsize=8, ncols=2 if len(alike) > 6 else 1)
        else:
            axes.set_title(_name(alike[0], alike), fontsize=10, loc="left")
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return _for_the_page(written.getvalue(), f"{', '.join(_name(one, alike) for one in alike)}")


def _lines(axes: Axes, alike: Sequence[Curve]) -> None:
    places = list(dict.fromkeys(one.place for one in alike))
    names = list(dict.fromkeys(one.name for one in alike))
    for index, curve in enumerate(alike):
        # Colour tells the lines apart, and so do marker and dash, which follow name and place.
        style = names.index(curve.name) if len(names) > 1 else places.index(curve.place)
        axes.plot(
            [x for x, _ in curve.points], [y for _, y in curve.points], label=_name(curve, alike),
            color=LINES[index % len(LINES)], linestyle=DASHES[places.index(curve.place) % len(DASHES)], linewidth=1.6,
            marker=MARKERS[style % len(MARKERS)], markersize=4.5, markevery=max(1, len(curve.points) // 30),
        )  # fmt: skip


def _bars(axes: Axes, alike: Sequence[Curve]) -> None:
    names = list(dict.fromkeys(str(x) for one in alike for x, _ in one.points))
    width = 0.8 / len(alike)
    for index, curve in enumerate(alike):
        at = [names.index(str(x)) + (index - (len(alike) - 1) / 2) * width for x, _ in curve.points]
        bars = axes.bar(
            at, [y for _, y in curve.points], width * 0.92, label=_name(curve, alike), color=LINES[index % len(LINES)],
            hatch=("", "///", "...", "xxx")[index % 4], edgecolor=INK, linewidth=0.5,
        )  # fmt: skip
        axes.bar_label(bars, fmt="%g", fontsize=8)
    axes.set_xticks(range(len(names)), names)


def _name(curve: Curve, alike: Sequence[Curve]) -> str:
    places, names = {one.place for one in alike}, {one.name for one in alike}
    return ", ".join([curve.name] * (len(names) > 1 or len(places) == 1) + [curve.place] * (len(places) > 1))


def _for_the_page(written: str, title: str) -> str:
    """The <svg> element alone, with variables for colours, and names that no other plot of the page has."""
    from markupsafe import escape

    svg = written[written.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"<style.*?</style>\s*", "", svg, count=1, flags=re.DOTALL)
    for n, colour in enumerate(LINES):
        svg = svg.replace(colour, f"var(--line{n})")
    svg = svg.replace(INK, "currentColor").replace(FAINT, "var(--faint)")
    # The size in points is matplotlib's; the page gives the width.
    svg = re.sub(r' width="[\d.]+pt"| height="[\d.]+pt"', "", svg, count=2)
    head, _, rest = svg.partition(">")
    return f'{head} class="plot" role="img"><title>{escape(title)}</title>{rest}'
