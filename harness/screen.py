"""What people look at while and after commands work: tables, bars of progress, colours that say something.

All of it is for a terminal. A pipe, a file, a dumb terminal and CI get plain lines, the same each time. NO_COLOR takes
the colours away, and leaves the rest (https://no-color.org).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.progress import Progress

# What a colour says: as it should be, wrong, in doubt, beside the point.
GOOD, BAD, DOUBT, ASIDE = "green", "bold red", "yellow", "dim"
# How often a bar looks at what it shows, in seconds.
LOOKS = 0.25
# Of how many seconds a rate is the average: long enough for a mirror or a machine that falters.
OF_THE_LAST = 30.0
# The variable that names the file in which a session of pytest says how far it is, for the command that waits for it.
FAR = "TCP_HARNESS_FAR"
# Digits of COLUMNS.
WIDEST = 5
_ANSI = {GOOD: "\x1b[32m", BAD: "\x1b[1;31m", DOUBT: "\x1b[33m", ASIDE: "\x1b[2m"}
_PLAIN = "\x1b[0m"


def is_watched(stream: TextIO) -> bool:
    """Whether a person looks at a stream: a terminal that can do more than print, and no CI."""
    ci = any(os.environ.get(name) for name in ("CI", "BUILD_NUMBER"))
    return stream.isatty() and not ci and os.environ.get("TERM") != "dumb"


def forget_odd_width() -> None:
    """Forget a width that no terminal has: pytest would draw lines of it, and have no memory for them."""
    columns = os.environ.get("COLUMNS", "")
    if columns.strip().isdigit() and len(columns) > WIDEST:
        del os.environ["COLUMNS"]


def has_colours(stream: TextIO) -> bool:
    """Whether colours are welcome there."""
    return is_watched(stream) and not os.environ.get("NO_COLOR")


def coloured(text: str, meaning: str, stream: TextIO | None = None) -> str:
    """A text in the colour of its meaning, where colours are welcome; standard output is the stream of most."""
    return f"{_ANSI[meaning]}{text}{_PLAIN}" if meaning and text and has_colours(stream or sys.stdout) else text


# Tables.


@dataclass(frozen=True)
class Cell:
    """A cell with a meaning."""

    text: str
    meaning: str = ""


def table(head: Sequence[str], rows: Sequence[Sequence[str | Cell]], right: Sequence[int] = ()) -> None:
    """Print a table to standard output; the columns in `right` are numbers.

    A terminal gets long cells folded, so that columns stay columns. Everybody else gets a line for each row.
    """
    cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *([c.text for c in row] for row in cells), strict=True)]
    if is_watched(sys.stdout) and sum(widths) + 2 * (len(widths) - 1) > shutil.get_terminal_size().columns:
        _folded(head, cells, right)
        return
    print(_line([Cell(name, ASIDE) for name in head], widths, right))
    for row in cells:
        print(_line(row, widths, right))


def _line(row: Sequence[Cell], widths: Sequence[int], right: Sequence[int]) -> str:
    # Colours have no width, and no padding stands at the end of a line.
    texts = [
        f"{cell.text:>{width}}" if number in right else f"{cell.text:<{width}}"
        for number, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    texts[-1] = texts[-1].rstrip()
    line = "  ".join(coloured(text, cell.meaning) for text, cell in zip(texts, row, strict=True))
    return line if has_colours(sys.stdout) else line.rstrip()


def _folded(head: Sequence[str], rows: Sequence[Sequence[Cell]], right: Sequence[int]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=ASIDE)
    for number, name in enumerate(head):
        drawn.add_column(name, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell.text, cell.meaning) for cell in row))
    Console(color_system="standard" if has_colours(sys.stdout) else None, highlight=False).print(drawn)


# Progress.


@dataclass(frozen=True)
class Work:
    """Something that takes a while.

    `done` says how much there is by now, and of how much in all, 0 if nobody knows. `unit` is "bytes", "seconds" (in
    all: as long as it took before), or what is counted: "tests".
    """

    what: str
    done: Callable[[], tuple[float, float]]
    unit: str


@contextlib.contextmanager
def following(*works: Work) -> Iterator[None]:
    """While the block runs, show on standard error how far each of these works is, how fast, and how long it will take.

    Nothing is left of it afterwards, and nobody sees it where nobody looks.
    """
    if not works or not is_watched(sys.stderr):
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True, color_system="standard" if has_colours(sys.stderr) else None, highlight=False)
    # What is followed may be named for a file, with brackets: no markup.
    name, says = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[says]}"))
    # Standard output is not its business: it may go to a file.
    bars = Progress(
        name, BarColumn(bar_width=24), says, console=console, transient=True, redirect_stdout=False,
        speed_estimate_period=OF_THE_LAST,
    )  # fmt: skip
    for work in works:
        bars.add_task(work.what, total=None, says="")
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOKS):
            _look(bars, works)

    with bars:
        _look(bars, works)
        looking = threading.Thread(target=look, name="progress", daemon=True)
        looking.start()
        try:
            yield
        finally:
            ended.set()
            looking.join()


def _look(bars: Progress, works: Sequence[Work]) -> None:
    for work, task in zip(works, bars.tasks, strict=True):
        with contextlib.suppress(OSError):  # a file that is not there yet, or no more
            done, total = work.done()
            bars.update(task.id, completed=done, total=total if total > done else None)
            bars.update(task.id, says=progress(work.unit, done, total, rate=task.speed or 0, since=task.elapsed or 0))


def progress(unit: str, done: float, total: float, *, rate: float, since: float) -> str:
    """How far something is in words; `rate` in units a second, `since` in seconds.

    Nothing is guessed of the time that is left before something is done, nor once an estimate has passed.
    """
    if unit == "seconds":
        left = duration(total - done) if total > done else ""
        return ", ".join(filter(None, [f"{duration(done)} so far", left and f"about {left} left"]))
    left = duration((total - done) / rate) if rate and total > done else ""
    if unit == "bytes":
        far = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else f"{done / 1e6:.0f} MB"
        fast = f"{rate / 1e6:.1f} MB a second" if rate else ""
    elif not total:
        return f"{duration(since)} so far"
    else:
        far = f"{done:.0f} of {total:.0f} {unit}"
        fast = "" if not rate else f"{rate:.1f} a second" if rate >= 1 else f"{rate * 60:.0f} a minute"
    return ", ".join(filter(None, [far, fast, left and f"about {left} left"]))


def far(file: Path) -> tuple[float, float]:
    """How many tests of a session have ended, of how many, by its file; 0 of 0 before it is there."""
    try:
        ended, total = file.read_text().split()
        return int(ended), int(total)
    except (OSError, ValueError):  # ValueError: it is being written
        return 0, 0


def duration(seconds: float) -> str:
    """Some seconds as people say them: 41 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
