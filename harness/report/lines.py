"""A cable that was like a real one, in words: what it did to frames, and what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.lab.impairment import LineUsed, Towards

BY = {"netem": "netem", "box": "a box of ours"}


def told(line: LineUsed) -> str:
    """A cable in a sentence: "client - server: 150 ms each way, 1 % lost (seed 7); by netem; to server 98, 2 lost"."""
    parts = [", ".join(_doing(line)) or "nothing", f"by {BY.get(line.by, line.by)}"]
    parts += [_towards(towards) for towards in line.towards]
    return f"{' - '.join(line.between)}: {'; '.join(parts)}"


def _doing(line: LineUsed) -> Iterator[str]:
    if line.delay:
        yield f"{1000 * line.delay:g} ms each way" + (f" ± {1000 * line.jitter:g} ms" if line.jitter else "")
    for percent, what in ((line.loss, "lost"), (line.duplicate, "twice"), (line.reorder, "overtaking")):
        if percent:
            yield f"{percent:g} % {what}"
    if line.rate is not None:
        yield f"{line.rate / 1e6:g} Mbit/s, a queue of {line.queue}"
    if line.seed is not None:
        yield f"seed {line.seed}{' (drawn)' if line.drawn else ''}"


def _towards(towards: Towards) -> str:
    """What became of the frames to a host."""
    counted = ((towards.lost, "lost"), (towards.overflowed, "without room"), (towards.unasked, "lost unasked"))
    return f"to {towards.host} {towards.passed} passed" + "".join(f", {n} {what}" for n, what in counted if n)
