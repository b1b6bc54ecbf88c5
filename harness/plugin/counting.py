"""How many tests there are on all kernels together: pytest-xdist takes the number of the worker that came last.

Its share of what is done would be 300 % on three kernels.
"""

from __future__ import annotations

import pytest

# For each kernel (None: no kernel was named) how many tests its workers have collected.
COLLECTED = pytest.StashKey[dict[str | None, int]]()


def add(config: pytest.Config, kernel: str | None, tests: int) -> None:
    """A worker of a kernel has collected so many."""
    config.stash.setdefault(COLLECTED, {})[kernel] = tests


def expected(config: pytest.Config, kernels: int) -> int:
    """How many tests there are on so many kernels: one that has not come yet will have as many as that with most."""
    collected = config.stash.get(COLLECTED, {})
    missing = max(0, kernels - len(collected))
    return sum(collected.values()) + missing * max(collected.values(), default=0)


def correct(session: pytest.Session) -> None:
    """Say in the end how many there were; there may be nothing on the kernel that came last."""
    session.testscollected = max(session.testscollected, expected(session.config, 0))


class Share:
    """Keeps the number right while results come in, from which the terminal makes the share of what is done."""

    def __init__(self, session: pytest.Session, kernels: int) -> None:
        self._session, self._kernels = session, kernels

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self) -> None:
        """Before anything of a result is shown."""
        self._session.testscollected = expected(self._session.config, self._kernels)


def begin(session: pytest.Session, kernels: int) -> None:
    """With --tcp-kernel, where each kernel's tests are counted."""
    session.config.pluginmanager.register(Share(session, kernels), "harness-share")
