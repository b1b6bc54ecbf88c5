"""How far a session is: how many tests there are, of all workers, and how many have ended.

A command of ours that waits for the session reads it from a file, which it names in the environment.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import screen
from harness.plugin.kernels import name_of

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "harness-far"
# Before so many have ended, and so many seconds have passed, nothing is guessed.
FEWEST, SOONEST = 3, 2.0


def begin(config: pytest.Config) -> None:
    """Count in the process at the terminal."""
    file = os.environ.pop(screen.FAR, "")
    config.pluginmanager.register(Far(Path(file) if file else None), NAME)


class Far:
    """Counts tests."""

    def __init__(self, file: Path | None = None) -> None:
        self.ended = 0
        self._file = file
        self._of: dict[str | None, int] = {}
        self._began = 0.0

    @property
    def total(self) -> int:
        """How many tests there are, as far as they are collected: each kernel has its own."""
        return sum(self._of.values())

    def words(self, *, alone: bool = True) -> str:
        """How far it is, if `alone` with the rate and the time left; "" before the first test and after the last."""
        if not self._began or self.ended >= self.total:
            return ""
        since = time.monotonic() - self._began
        rate = self.ended / since if alone and self.ended >= FEWEST and since >= SOONEST else 0.0
        return screen.progress("tests", self.ended, self.total, rate=rate, since=since)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without workers."""
        self._of[None] = len(session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: object, ids: Sequence[str]) -> None:
        """A worker has collected what all workers of its kernel have."""
        self._of[name_of(node)] = len(ids)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        """The first one begins the count of time."""
        self._began = self._began or time.monotonic()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logfinish(self) -> None:
        """One more."""
        self.ended += 1
        if self._file is not None:
            with suppress(OSError):  # who waits is gone
                self._file.write_text(f"{self.ended} {self.total}")
