"""The picture of a profile: a bar a test, dearest first, in the colours of its parts; the rest as one more bar."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from bench.profile.table import ELSEWHERE, PARTS

if TYPE_CHECKING:
    from bench.profile.table import Measured

SHOWN = 40
WIDTH, ROW = 10.0, 0.22
COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#9d9d9d", "#e45756")


def drawn(measured: Measured) -> str:
    """The picture as SVG."""
    from matplotlib.figure import Figure

    shown, rest = measured.tests[:SHOWN], measured.tests[SHOWN:]
    names = [test.name for test in shown] + [f"{len(rest)} others"] * bool(rest)
    figure = Figure(figsize=(WIDTH, ROW * (len(names) + 6)), layout="constrained")
    axes = figure.add_subplot()
    left = [0.0] * len(names)
    for part, colour in zip((*PARTS, ELSEWHERE), COLOURS, strict=True):
        widths = [test.parts[part] for test in shown] + [sum(test.parts[part] for test in rest)] * bool(rest)
        axes.barh(range(len(names)), widths, left=left, color=colour, label=part)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("seconds of processor time" + (", QEMU" if measured.machine else ""))
    axes.legend(loc="lower right", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()
