"""Series as plots: one for each pair of axes, in the page's colours, with names for who cannot tell colours apart."""

from __future__ import annotations

import builtins
import re
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import Unsupported
from harness.evidence.values import Kind
from harness.report import plots
from harness.report.plots import curves, draw
from tests.report.made_evidence import course, phase, run

if TYPE_CHECKING:
    from harness.evidence.types import Run, Series

LINE = ((0, 1), (1, 2))


def measured(*series: Series) -> Run:
    return run(phases=(phase("effect", "e", series=series),))


def test_series_of_the_same_axes_share_a_plot() -> None:
    law = course("law", [(1, 3)], x="retries", unit="s", x_kind=Kind.COUNT)
    plots = draw(curves(measured(course("one", LINE), course("two", [(0, 3)]), law)))
    assert len(plots) == 2
    assert ">one (effect)<" in plots[0]
    assert ">two (effect)<" in plots[0]
    assert ">retries<" in plots[1]


def test_names_make_bars() -> None:
    served = course("served", [("cookies", 10), ("none", 0)], x="defence", unit="clients", x_kind=Kind.TEXT)
    (plot,) = draw(curves(measured(served)))
    assert ">cookies<" in plot
    assert ">10<" in plot


def test_colours_are_the_pages() -> None:
    (plot,) = draw(curves(measured(course("one", LINE))))
    assert "currentColor" in plot
    assert "var(--line0)" in plot
    # White and black are what matplotlib does not ask about: nothing of the kind may be left but in definitions.
    assert not re.search(r"(fill|stroke): #(?!ffffff)[0-9a-f]{6}", plot)


def test_a_series_that_goes_on_from_phase_to_phase_is_drawn_once() -> None:
    growing = [phase("effect", f"e{n}", series=(course("served", [(i, i) for i in range(n)]),)) for n in (1, 2, 3)]
    (curve,) = curves(run(phases=tuple(growing)))
    assert curve.points == ((0, 0.0), (1, 1.0), (2, 2.0))


@pytest.mark.parametrize(
    ("series", "other"),
    [
        (course("one", LINE), course("far", [(100, 1000), (200, 2000)], unit="bytes")),
        (
            course("served", [("a", 3), ("b", 4)], x="defence", unit="clients", x_kind=Kind.TEXT),
            course("many", [("c", 500), ("d", 40), ("e", 7)], x="other", unit="hosts", x_kind=Kind.TEXT),
        ),
    ],
)
def test_what_a_plot_shows_is_its_own(series: Series, other: Series) -> None:
    """Axes are used again, and nothing of the plot before is left on them."""
    first = draw(curves(measured(series)))
    draw(curves(measured(other)))
    plots._panel.cache_clear()
    assert draw(curves(measured(series))) == first


def test_hostile_names_are_text() -> None:
    (plot,) = draw(curves(measured(course("<script>x</script> $\\frac{$ --> ]]>", LINE, unit="$\\frac{$ <script>"))))
    assert "<script" not in plot
    assert "&lt;script&gt;" in plot


def test_without_matplotlib_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Unsupported, match=r"plots need matplotlib; pip install 'tcp-harness\[report\]'"):
        draw(curves(measured(course("one", LINE))))
