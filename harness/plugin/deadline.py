"""--session-timeout of pytest-timeout where time is simulated: between tests the machines' clocks run on by hours.

So the process at the terminal looks at its own clock, and the machines at none.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from harness.plugin.process import is_worker
from harness.simulated import is_simulated

if TYPE_CHECKING:
    from collections.abc import Callable

SETTING = "session_timeout"
# In seconds: longer than any session.
NEVER = 1e9


def begin(config: pytest.Config, clock: Callable[[], float] = time.monotonic) -> None:
    """In a worker whose time is simulated, let the session go on; with --tcp-kernel, end it when it is time."""
    seconds = _wanted(config)
    if seconds is None:
        return
    if is_worker(config):
        if is_simulated():
            setattr(config.option, SETTING, NEVER)
    elif config.getoption("tcp_kernel"):
        config.pluginmanager.register(Deadline(seconds, clock), "harness-deadline")


def _wanted(config: pytest.Config) -> float | None:
    """How long the session may take, in seconds, if pytest-timeout is there and has been told so."""
    if not hasattr(config.option, SETTING):
        return None
    value = config.getoption(SETTING)
    if value is None:
        value = config.getini(SETTING) or None
    try:
        return None if value is None else float(value)
    except ValueError:  # pytest-timeout says so
        return None


class Deadline:
    """Ends the session after the test that was running when it was time."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until = clock() + seconds

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Which session it is."""
        self._session = session

    def pytest_runtest_logfinish(self) -> None:
        """A test is over."""
        if self._clock() > self._until:
            self._session.shouldfail = f"session-timeout: {self._seconds:g} sec exceeded"
            raise pytest.Session.Failed(self._session.shouldfail)
