"""The legend below a plot, drawn in its style: matplotlib's own takes as long as the plot."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import escape

# Of a line, in points, of which an inch has 72.
HEIGHT, WIDTH, TEXT = 14, 24, 9
# The dashes of lines and the hatches of bars, in the order of plots.DASHES and plots.HATCHES.
DASHES = ("", "6 2.5", "6 2.5 1.5 2.5", "1.5 2.5")
HATCHES = (
    "",
    "M2 4L5 -4M7 4L10 -4M12 4L15 -4M17 4L20 -4",
    "M3 0a1 1 0 1 0 2 0a1 1 0 1 0 -2 0M11 0a1 1 0 1 0 2 0a1 1 0 1 0 -2 0M19 0a1 1 0 1 0 2 0a1 1 0 1 0 -2 0",
    "M3 -3L8 3M8 -3L3 3M13 -3L18 3M18 -3L13 3",
)
# The shapes of plots.MARKERS around the middle: circle, square, triangle, diamond, triangle down, plus, cross, star.
MARKERS = (
    "M-2.5 0a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0 -5 0z",
    "M-2.3 -2.3h4.6v4.6h-4.6z",
    "M0 -2.5L2.5 2.5h-5z",
    "M0 -3.2L3.2 0L0 3.2L-3.2 0z",
    "M0 2.5L2.5 -2.5h-5z",
    "M-.8 -2.5h1.6v1.7h1.7v1.6h-1.7v1.7h-1.6v-1.7h-1.7v-1.6h1.7z",
    "M-2.5 -1.4L-1.4 -2.5L0 -1.1L1.4 -2.5L2.5 -1.4L1.1 0L2.5 1.4L1.4 2.5L0 1.1L-1.4 2.5L-2.5 1.4L-1.1 0z",
    "M0 -3L.7 -1L2.9 -.9L1.1 .4L1.8 2.4L0 1.2L-1.8 2.4L-1.1 .4L-2.9 -.9L-.7 -1z",
)


@dataclass(frozen=True)
class Key:
    """A line of the legend: a colour with its marker, or a dash or hatch with its run, each by its number."""

    text: str
    colour: int | None
    dash: int | None
    bar: bool

    def draw(self, x: float, y: float) -> str:
        """The line as SVG, its sign beginning at x and its middle at y, in points."""
        sign = self._bar() if self.bar else self._line()
        text = f'<text x="{WIDTH + 8}" y="3" fill="currentColor" font-size="{TEXT}">{escape(self.text)}</text>'
        return f'<g transform="translate({x:.1f} {y:.1f})" fill="{self._paint}" stroke-width="0.6">{sign}{text}</g>'

    @property
    def _paint(self) -> str:
        return "currentColor" if self.colour is None else f"var(--line{self.colour})"

    def _bar(self) -> str:
        hatch = f'<path d="{HATCHES[self.dash]}" stroke="currentColor" fill="none"/>' if self.dash else ""
        fill = "none" if self.colour is None else self._paint
        return f'<path d="M0 -4h{WIDTH}v8h-{WIDTH}z" fill="{fill}" stroke="currentColor"/>{hatch}'

    def _line(self) -> str:
        dash = f' stroke-dasharray="{DASHES[self.dash]}"' if self.dash else ""
        line = f'<path d="M0 0h{WIDTH}"{dash} stroke="{self._paint}" stroke-width="1.6" fill="none"/>'
        if self.colour is None:
            return line
        return f'{line}<path d="{MARKERS[self.colour]}" transform="translate({WIDTH / 2} 0)"/>'
