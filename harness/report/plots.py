"""The series of a claim as plots: SVG in the colours of the page, so that it is light or dark with it."""

from __future__ import annotations

import io
import re
import warnings
from collections import defaultdict
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from markupsafe import escape

from harness.errors import Unsupported
from harness.report.legend import HEIGHT as KEY_HEIGHT
from harness.report.legend import Key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.evidence.types import Run

# matplotlib knows no CSS variable: it draws in these colours, and they are replaced in what it wrote.
INK, FAINT = "#010203", "#040506"
LINES = tuple(f"#0a0b{n:02x}" for n in range(8))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":")
HATCHES = ("", "////", "....", "xxxx")
# In inches; what is below the axes comes to the height.
WIDTH, HEIGHT = 6.4, 2.6
RIGHT = 0.97
MOST_LINES, MOST_PANELS = 16, 6
POINTS_DRAWN = 400
SETTINGS: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "tcp-harness", "text.parse_math": False, "axes.edgecolor": FAINT,
    "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "text.color": INK, "font.size": 10,
    "axes.spines.top": False, "axes.spines.right": False, "path.simplify": True, "grid.color": FAINT,
    "hatch.linewidth": 0.6,
}  # fmt: skip

Point = tuple[float | str, float]


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
    def has_names(self) -> bool:
        """Whether x has names: such a series is bars."""
        return any(isinstance(x, str) for x, _ in self.points)


def curves(run: Run, label: str = "") -> list[Curve]:
    """The series of a run's phases; one that another continues from the same start is left out.

    `label` tells the run from others in the same plot.
    """
    alike: dict[tuple[str, str], list[Curve]] = defaultdict(list)
    for phase in run.phases:
        for series in phase.series:
            if series.points:
                step = max(1, len(series.points) // POINTS_DRAWN)
                curve = Curve(phase.kind, label, series.name, series.x, series.unit, series.points[::step])
                alike[phase.kind, series.name].append(curve)
    return [curve for each in alike.values() for curve in _longest(each)]


def _longest(alike: Sequence[Curve]) -> list[Curve]:
    """Of series that grow from phase to phase the last."""
    longest: list[Curve] = []
    for curve in alike:
        if longest and curve.points[: len(longest[-1].points)] == longest[-1].points:
            longest.pop()
        longest.append(curve)
    return longest


def draw(series: Iterable[Curve]) -> list[str]:
    """A plot for each pair of axes, as SVG elements; Unsupported if matplotlib is not installed."""
    panels: dict[tuple[str, str, bool], list[Curve]] = defaultdict(list)
    for curve in series:
        panels[curve.x, curve.unit, curve.has_names].append(curve)
    if not panels:
        return []
    try:
        import matplotlib
    except ImportError:
        raise Unsupported("plots need matplotlib; pip install 'tcp-harness[report]'") from None
    # A glyph that matplotlib's own font lacks is no news: the reader's browser draws the text.
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [_panel(_Panel(tuple(each[:MOST_LINES]))) for each in list(panels.values())[:MOST_PANELS]]


@dataclass(frozen=True)
class _Panel:
    """The curves of a plot; colour and marker tell phases and names apart, dash or hatch tells runs apart."""

    curves: tuple[Curve, ...]

    @property
    def whats(self) -> list[tuple[str, str]]:
        """The phases and names, in the order of their colours."""
        return list(dict.fromkeys((curve.kind, curve.name) for curve in self.curves))

    @property
    def runs(self) -> list[str]:
        """The runs, in the order of their dashes."""
        return list(dict.fromkeys(curve.run for curve in self.curves))

    @property
    def x_names(self) -> list[str]:
        """The names on the axis of bars."""
        return list(dict.fromkeys(str(x) for curve in self.curves for x, _ in curve.points))

    @property
    def has_bars(self) -> bool:
        """Whether it is of bars."""
        return self.curves[0].has_names

    def colour(self, curve: Curve) -> int:
        """The number of a curve's colour and marker."""
        return self.whats.index((curve.kind, curve.name)) % len(LINES)

    def dash(self, curve: Curve) -> int:
        """The number of a curve's dash or hatch."""
        return self.runs.index(curve.run) % len(DASHES)


@lru_cache(maxsize=64)
def _panel(panel: _Panel) -> str:
    """A plot as an SVG element; kernels that do the same measured the same."""
    keys = list(_keys(panel))
    body = 0.5 + 0.16 * len(panel.x_names) * len(panel.curves) if panel.has_bars else HEIGHT
    legend = len(keys) * KEY_HEIGHT / 72 + 0.1
    # Margins of a fixed size, in inches: to lay the figure out by what stands in it takes longer than to draw it.
    whole = body + legend + 0.62
    longest = max((len(part) for name in panel.x_names for part in name.split("\n")), default=0)
    left = min(0.46, 0.03 + 0.0138 * longest) if panel.has_bars else 0.11
    figure, axes = _axes(bars=panel.has_bars)
    figure.set_size_inches(WIDTH, whole)
    figure.subplots_adjust(left=left, right=RIGHT, top=1 - 0.12 / whole, bottom=(legend + 0.5) / whole)
    # Where the axes' own labels stand: by default matplotlib measures every other text to find out.
    axes.xaxis.set_label_coords(0.5, -0.31 / body)
    axes.yaxis.set_label_coords((0.24 - left * WIDTH) / ((RIGHT - left) * WIDTH), 0.5)
    (_bars if panel.has_bars else _lines)(axes, panel)
    written = io.StringIO()
    # Not savefig(), which goes through all of it once more to see how large it is.
    figure.canvas.print_svg(written, metadata={"Date": None, "Creator": None})  # type: ignore[attr-defined]
    top = 72 * (whole - legend)
    drawn = [key.draw(72 * WIDTH * left, top + KEY_HEIGHT * (place + 0.5)) for place, key in enumerate(keys)]
    return _for_the_page(written.getvalue(), ", ".join(dict.fromkeys(key.text for key in keys)), "".join(drawn))


@cache
def _axes(*, bars: bool) -> tuple[Figure, Axes]:
    """A figure with axes: to make them and their ticks takes as long as to draw them, so they are used again."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure()
    FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    axes.grid(visible=True, axis="x" if bars else "both", alpha=0.25, linewidth=0.6)
    if bars:
        axes.invert_yaxis()
    else:
        axes.locator_params(nbins=7)
    return figure, axes


def _lines(axes: Axes, panel: _Panel) -> None:
    for line in list(axes.lines):
        line.remove()
    axes.set_prop_cycle(None)
    for curve in panel.curves:
        # Colour tells the lines apart, and so does the marker.
        colour = panel.colour(curve)
        axes.plot(
            [x for x, _ in curve.points], [y for _, y in curve.points], color=LINES[colour], linewidth=1.6,
            linestyle=DASHES[panel.dash(curve)], marker=MARKERS[colour], markersize=4.5,
            markevery=max(1, len(curve.points) // 30),
        )  # fmt: skip
    axes.set_xlabel(_axis(panel.curves[0].x))
    axes.set_ylabel(_axis(panel.curves[0].unit))
    axes.relim()
    axes.autoscale(enable=True)
    axes.autoscale_view()
    axes.set_ylim(bottom=min(0.0, *(y for curve in panel.curves for _, y in curve.points)))


def _bars(axes: Axes, panel: _Panel) -> None:
    for artist in (*axes.patches, *axes.texts):
        artist.remove()
    axes.containers.clear()
    names = panel.x_names
    thick = 0.8 / len(panel.curves)
    for place, curve in enumerate(panel.curves):
        at = [names.index(str(x)) + (place - (len(panel.curves) - 1) / 2) * thick for x, _ in curve.points]
        bars = axes.barh(
            at, [y for _, y in curve.points], thick * 0.9, edgecolor=INK, linewidth=0.5,
            color=LINES[panel.colour(curve)], hatch=HATCHES[panel.dash(curve)],
        )  # fmt: skip
        axes.bar_label(bars, fmt="%g", fontsize=8, padding=2)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(_axis(panel.curves[0].unit))
    axes.relim()
    axes.autoscale(enable=True, axis="x")
    axes.autoscale_view(scaley=False)


def _axis(unit: str) -> str:
    return "seconds" if unit == "s" else unit


def _keys(panel: _Panel) -> Iterator[Key]:
    """The legend: what each colour and marker is, and each dash or hatch where there are several."""
    for number, (kind, name) in enumerate(panel.whats):
        yield Key(f"{name} ({kind})", number % len(LINES), None, panel.has_bars)
    if len(panel.runs) > 1:
        for number, run in enumerate(panel.runs):
            yield Key(run, None, number % len(DASHES), panel.has_bars)


def _for_the_page(written: str, title: str, legend: str) -> str:
    """The <svg> element alone, with variables for colours, and names that no other plot of the page has."""
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
    rest = rest.rstrip().removesuffix("</svg>")
    return f'{head} class="plot" role="img"><title>{escape(title)}</title>{rest}{legend}</svg>'
