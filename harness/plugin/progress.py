"""While it runs: how far it is, what it waits for, how much longer: a line beneath pytest's own, on a terminal alone.

Workers tell the process at the terminal over a channel of execnet's, which nobody else has; in a guest waits pass at
once, and it has none. Nothing is written where nobody looks: not to a pipe or a file, not with -q, not under CI.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import pytest

from harness import screen, waiting
from harness.kernels.targets import Running
from harness.plugin import far
from harness.plugin.kernels import name_of
from harness.plugin.process import distributes
from harness.waiting import TOLD_EVERY

if TYPE_CHECKING:
    from collections.abc import Callable

    from xdist.workermanage import WorkerController

# The plugin that keeps the line, and what workers are given to tell it with.
PROGRESS = "harness-progress"
CHANNEL = "harness_progress"
# A worker that says nothing for so long, in seconds, has stopped waiting, or is gone.
STALE = 3 * TOLD_EVERY
LONGEST = 500


@dataclass(frozen=True)
class Wait:
    """A wait that somebody told of: which test, for what, for how long already, how much longer at most; in seconds."""

    test: str
    what: str
    since: float
    left: float
    heard: float


def begin(config: pytest.Config) -> None:
    """Where somebody looks, show what is waited for."""
    if config.getoption("collectonly") or not sys.stdout.isatty() or not config.pluginmanager.has_plugin("terminal"):
        return
    if not is_watched(config):
        return
    progress = Progress(config)
    config.pluginmanager.register(progress, PROGRESS)
    if distributes(config):
        progress.listen()
    else:
        config.pluginmanager.register(Teller(progress.note), "harness-teller")


def tell_worker(node: WorkerController) -> None:
    """Say to a worker where to tell of its waits."""
    progress: Progress | None = node.config.pluginmanager.get_plugin(PROGRESS)
    if progress is not None and name_of(node) in (None, Running.NAME):
        node.workerinput[CHANNEL] = progress.channel(node)


def tell_of_waits(config: pytest.Config) -> None:
    """In a worker, tell the process at the terminal."""
    channel = getattr(config, "workerinput", {}).get(CHANNEL)
    if channel is not None:
        config.pluginmanager.register(Teller(over(channel)), "harness-teller")


def is_watched(config: pytest.Config, stream: TextIO | None = None) -> bool:
    """Whether somebody looks at the terminal and wants to see it."""
    stream = stream or sys.stdout
    return screen.is_watched(stream) and config.getoption("verbose") >= 0


class Line:
    """The line beneath the cursor: shown and taken away without moving what pytest writes."""

    def __init__(
        self, write: Callable[[str], None], column: Callable[[], int], width: Callable[[], int], *, dim: bool = True
    ) -> None:
        self._write, self._column, self._width, self._dim = write, column, width, dim
        self._shown = False

    def show(self, *texts: str) -> None:
        """Show the first of the texts that fits on a line, or the last, cut."""
        room = max(0, self._width() - 1)
        text = next((each for each in texts if len(each) <= room), texts[-1])
        cut = text if len(text) <= room else f"{text[: room - 1]}…"
        # Down, which may scroll; the line; up again, and to the column where pytest goes on.
        shown = f"\x1b[2m{cut}\x1b[0m" if self._dim else cut
        self._write(f"\n\r\x1b[2K{shown}\x1b[1A\r" + (f"\x1b[{self._column()}C" if self._column() else ""))
        self._shown = True

    def clear(self) -> None:
        """Take it away; nothing if it is not shown."""
        if self._shown:
            self._write("\x1b[J")
            self._shown = False


def line_of(waits: list[Wait]) -> str:
    """The line for these waits: the longest of them, and how many there are besides."""
    longest = max(waits, key=lambda wait: wait.left)
    others = f" (and {len(waits) - 1} more)" if len(waits) > 1 else ""
    since = f"{longest.since:.0f} s so far, at most {longest.left:.0f} s more"
    return f"{longest.test} waits for {longest.what}: {since}{others}"


class Progress:
    """At the terminal: gathers what workers and this process wait for, and keeps the line."""

    def __init__(self, config: pytest.Config) -> None:
        # pytest captures standard output while a test runs; this is the one from before.
        self._terminal = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", errors="replace")
        # Asked when the line is shown: pytest's own terminal is configured after us.
        self._line = Line(
            self._put,
            lambda: config.get_terminal_writer().width_of_current_line,
            self._width,
            dim=screen.has_colours(sys.stdout),
        )
        self._far: far.Far = config.pluginmanager.get_plugin(far.NAME) or far.Far()
        self._waits: dict[str, Wait] = {}
        self._machines: dict[str, float] = {}
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    def listen(self) -> None:
        """Keep the line up to date; a session without workers tells by itself and has no second thread."""
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Take the line away and listen no more."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(2 * TOLD_EVERY)
        with self._lock:
            self._line.clear()
        self._terminal.close()

    def channel(self, node: WorkerController) -> Any:
        """A channel for a worker to tell of its waits."""
        channel = node.gateway.newchannel()
        channel.setcallback(self._hear)
        return channel

    def note(self, wait: Wait) -> None:
        """Somebody waits; nothing more to wait if `left` is below zero."""
        with self._lock:
            if wait.left < 0:
                self._waits.pop(wait.test, None)
            else:
                self._waits[wait.test] = wait
            self.refresh()

    def refresh(self) -> None:
        """Bring the line up to date."""
        with self._lock:
            now = time.monotonic()
            self._waits = {test: wait for test, wait in self._waits.items() if now - wait.heard < STALE}
            if self._waits:
                waits = line_of(list(self._waits.values()))
                # How far the run is, before what it waits for: as much of it as there is room for.
                self._line.show(*(f"{how}; {waits}" for how in self._how_far() if how), waits)
            elif (alone := self._far.words()) and not self._machines:
                self._line.show(alone)
            elif self._machines:
                oldest = now - min(self._machines.values())
                self._line.show(f"bringing up {', '.join(sorted(self._machines))}: {oldest:.0f} s so far")
            else:
                self._line.clear()

    def _width(self) -> int:
        # Of the terminal itself: while a test is captured pytest takes it to have 80 columns.
        try:
            return os.get_terminal_size(self._terminal.fileno()).columns
        except OSError:
            return 80

    def _how_far(self) -> tuple[str, str]:
        return self._far.words(), self._far.words(alone=False)

    def _put(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._terminal.write(text)
            self._terminal.flush()

    def _run(self) -> None:
        while not self._ended.wait(TOLD_EVERY):
            self.refresh()

    def _hear(self, said: object) -> None:
        """In execnet's thread."""
        wait = heard(said)
        if wait is not None and not self._ended.is_set():
            self.note(wait)

    # pytest is about to write: the line goes first.

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        """Make room."""
        with self._lock:
            self._line.clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Make room; the test waits no more."""
        with self._lock:
            self._waits.pop(_short(report.nodeid), None)
            self._line.clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """The end."""
        self.end()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_newgateway(self, gateway: object) -> None:
        """A worker of another kernel is being brought up."""
        if kernel := name_of(gateway):
            with self._lock:
                self._machines.setdefault(f"Linux {kernel}", time.monotonic())

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: object) -> None:
        """It is there."""
        with self._lock:
            self._machines.pop(f"Linux {name_of(node)}", None)


class Teller:
    """In the process that runs the tests: tells of the waits of the test that it is at."""

    def __init__(self, tell: Callable[[Wait], None]) -> None:
        self._tell = tell
        self._test = ""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> object:
        """Know which test it is, and listen to its waits."""
        self._test = _short(item.nodeid)
        waiting.listener = self._waits
        try:
            return (yield)
        finally:
            waiting.listener = None

    def _waits(self, what: str, since: float, left: float) -> None:
        self._tell(Wait(self._test, what, since, left, time.monotonic()))


def over(channel: Any) -> Callable[[Wait], None]:
    """A way to tell the process at the terminal; what cannot be told is left."""

    def tell(wait: Wait) -> None:
        with contextlib.suppress(OSError):  # nobody is there any more
            channel.send((wait.test[:LONGEST], wait.what[:LONGEST], wait.since, wait.left))

    return tell


def heard(said: object) -> Wait | None:
    """What a worker has told, as it may be shown; None for what is no wait. A test may have said anything."""
    match said:
        case (str(test), str(what), int() | float() as since, int() | float() as left):
            if math.isfinite(since) and math.isfinite(left):
                return Wait(_plain(test), _plain(what), since, left, time.monotonic())
    return None


def _plain(text: str) -> str:
    """A text without what moves a terminal's cursor, or does worse."""
    return "".join(each if each.isprintable() else "?" for each in text[:LONGEST])


def _short(nodeid: str) -> str:
    return nodeid.rpartition("::")[2]
