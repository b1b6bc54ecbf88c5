"""Series as plots: one for each pair of axes, in the page's colours, with names for who cannot tell colours apart."""

from __future__ import annotations

import builtins
import re
from typing import Any

import pytest

from harness.errors import Unsupported
from harness.report.plots import curves, draw
from tests.report.made_evidence import phase


def measured(**series: Any) -> dict[str, Any]:
    return {"phases": [phase("effect", "e") | {"series": series}]}


def line(points: list[list[Any]], x: str = "s", unit: str = "sockets") -> dict[str, Any]:
    return {"x": x, "unit": unit, "points": points}


def test_series_of_the_same_axes_share_a_plot() -> None:
    found = curves(measured(one=line([[0, 1], [1, 2]]), two=line([[0, 3]]), law=line([[1, 3]], x="retries", unit="s")))
    plots = draw(found)
    assert len(plots) == 2
    assert ">one (effect)<" in plots[0]
    assert ">two (effect)<" in plots[0]
    assert ">retries<" in plots[1]


def test_names_make_bars() -> None:
    (plot,) = draw(curves(measured(served=line([["cookies", 10], ["none", 0]], x="defence", unit="clients"))))
    assert ">cookies<" in plot
    assert ">10<" in plot


def test_colours_are_the_pages() -> None:
    (plot,) = draw(curves(measured(one=line([[0, 1], [1, 2]]))))
    assert "currentColor" in plot
    assert "var(--line0)" in plot
    # White and black are what matplotlib does not ask about: nothing of the kind may be left but in definitions.
    assert not re.search(r"(fill|stroke): #(?!ffffff)[0-9a-f]{6}", plot)


def test_a_series_that_goes_on_from_phase_to_phase_is_drawn_once() -> None:
    phases = [phase("effect", f"e{n}") | {"series": {"served": line([[i, i] for i in range(n)])}} for n in (1, 2, 3)]
    (found,) = curves({"phases": phases})
    assert found.points == ((0, 0.0), (1, 1.0), (2, 2.0))


@pytest.mark.parametrize("series", ["x", {"points": "x"}, {"points": [[1]]}, {"points": [[1, "y"], [{}, 1]]}, {}])
def test_what_is_no_series_is_left_out(series: Any) -> None:
    assert curves(measured(odd=series)) == []


def test_hostile_names_are_text() -> None:
    (plot,) = draw(curves(measured(**{"<script>x</script> $\\frac{$ --> ]]>": line([[0, 1], [1, 2]])})))
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
        draw(curves(measured(one=line([[0, 1]]))))
