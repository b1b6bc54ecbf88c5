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
HATCHES = ("", "////", "....", "xxxx")
# In inches; what is below the axes comes to the height.
WIDTH, HEIGHT = 6.4, 2.6
MOST_LINES, MOST_PANELS = 16, 6
POINTS_DRAWN = 400
SETTINGS: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "tcp-harness", "text.parse_math": False, "axes.edgecolor": FAINT,
    "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "text.color": INK, "font.size": 10,
    "axes.spines.top": False, "axes.spines.right": False, "path.simplify": True, "grid.color": FAINT,
    "hatch.linewidth": 0.6,
}  # fmt: skip

Point = tuple[Any, float]


@dataclass(frozen=True)
class Curve:
    """One series: the kind of phase and the run it is of, its name, what x and y are, and its points.

    x is a number or a name.
    """

    kind: str
    run: str
    name: str
    x: str
    unit: str
    points: tuple[Point, ...]

    @property
    def named(self) -> bool:
        """Whether x has names: such a series is bars."""
        return any(isinstance(x, str) for x, _ in self.points)


def curves(run: dict[str, Any], label: str = "") -> list[Curve]:
    """The series of a run's phases; one that another continues from the same start is left out.

    `label` tells the run from others in the same plot.
    """
    found: dict[tuple[str, str], list[Curve]] = defaultdict(list)
    for phase in run["phases"]:
        series = phase.get("series", {})
        for name, one in series.items() if isinstance(series, dict) else ():
            points = _points(one)
            if points:
                kind = str(phase.get("kind"))
                curve = Curve(kind, label, str(name), str(one.get("x", "")), str(one.get("unit", "")), points)
                found[kind, curve.name].append(curve)
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
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        raise Unsupported("plots need matplotlib; pip install 'tcp-harness[report]'") from None
    written = io.StringIO()
    # A glyph that matplotlib's own font lacks is no news: the reader's browser draws the text.
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = len({str(x) for one in alike for x, _ in one.points}) * len(alike) if alike[0].named else 0
        keys = _keys(alike)
        body, legend = (0.5 + 0.16 * rows if rows else HEIGHT), 0.2 * len(keys) + 0.1
        # Margins of a fixed size, in inches: to lay the figure out by what stands in it takes longer than to draw it.
        whole = body + legend + 0.62
        left = min(0.46, 0.03 + 0.0138 * max(len(part) for one in alike for x, _ in one.points
                                             for part in str(x).split("\n"))) if rows else 0.11  # fmt: skip
        figure = Figure(figsize=(WIDTH, whole))
        figure.subplots_adjust(left=left, right=0.97, top=1 - 0.12 / whole, bottom=(legend + 0.5) / whole)
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        axes.grid(visible=True, axis="x" if rows else "both", alpha=0.25, linewidth=0.6)
        (_bars if rows else _lines)(axes, alike)
        figure.legend(*zip(*keys, strict=True), loc="lower left", bbox_to_anchor=(left - 0.02, 0.0), frameon=False,
                      fontsize=9, borderaxespad=0.0, labelspacing=0.25)  # fmt: skip
        # Not savefig(), which goes through all of it once more to see how large it is.
        print_svg: Any = FigureCanvasSVG(figure).print_svg
        print_svg(written, metadata={"Date": None, "Creator": None})
    return _for_the_page(written.getvalue(), f"{', '.join(dict.fromkeys(label for _, label in keys))}")


def _styles(alike: Sequence[Curve]) -> tuple[list[tuple[str, str]], list[str]]:
    """What colour and marker tell apart (phase and name), and what the dash does (the run)."""
    return list(dict.fromkeys((one.kind, one.name) for one in alike)), list(dict.fromkeys(one.run for one in alike))


def _keys(alike: Sequence[Curve]) -> list[tuple[Any, str]]:
    """The legend: what each colour and marker is, and each dash or hatch where there are several."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    what, runs = _styles(alike)
    keys: list[tuple[Any, str]] = []
    for index, (kind, name) in enumerate(what):
        colour = LINES[index % len(LINES)]
        sign = (
            Patch(facecolor=colour)
            if alike[0].named
            else Line2D([], [], color=colour, marker=_marker(index), markersize=5)
        )
        keys.append((sign, f"{name} ({kind})"))
    for index, run in enumerate(runs if len(runs) > 1 else ()):
        hatched = Patch(facecolor="none", edgecolor=INK, hatch=HATCHES[index % len(HATCHES)], linewidth=0.5)
        dashed = Line2D([], [], color=INK, linestyle=DASHES[index % len(DASHES)])
        keys.append((hatched if alike[0].named else dashed, run))
    return keys


def _marker(index: int) -> str:
    return MARKERS[index % len(MARKERS)]


def _lines(axes: Axes, alike: Sequence[Curve]) -> None:
    what, runs = _styles(alike)
    for curve in alike:
        # Colour tells the lines apart, and so does the marker.
        index = what.index((curve.kind, curve.name))
        axes.plot(
            [x for x, _ in curve.points], [y for _, y in curve.points], color=LINES[index % len(LINES)], linewidth=1.6,
            linestyle=DASHES[runs.index(curve.run) % len(DASHES)], marker=_marker(index), markersize=4.5,
            markevery=max(1, len(curve.points) // 30),
        )  # fmt: skip
    axes.set_xlabel({"s": "seconds"}.get(alike[0].x, alike[0].x))
    axes.set_ylabel({"s": "seconds"}.get(alike[0].unit, alike[0].unit))
    axes.set_ylim(bottom=min(0.0, *(y for one in alike for _, y in one.points)))
    axes.locator_params(nbins=7)


def _bars(axes: Axes, alike: Sequence[Curve]) -> None:
    what, runs = _styles(alike)
    names = list(dict.fromkeys(str(x) for one in alike for x, _ in one.points))
    thick = 0.8 / len(alike)
    for index, curve in enumerate(alike):
        at = [names.index(str(x)) + (index - (len(alike) - 1) / 2) * thick for x, _ in curve.points]
        bars = axes.barh(
            at, [y for _, y in curve.points], thick * 0.9, edgecolor=INK, linewidth=0.5,
            color=LINES[what.index((curve.kind, curve.name)) % len(LINES)],
            hatch=HATCHES[runs.index(curve.run) % len(HATCHES)],
        )  # fmt: skip
        axes.bar_label(bars, fmt="%g", fontsize=8, padding=2)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel({"s": "seconds"}.get(alike[0].unit, alike[0].unit))


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
