"""How many tests the workers have collected, all together."""

from __future__ import annotations

import pytest

COLLECTED = pytest.StashKey[int]()


def add(config: pytest.Config, tests: int) -> None:
    """A worker has collected so many."""
    config.stash[COLLECTED] = config.stash.get(COLLECTED, 0) + tests


def correct(session: pytest.Session) -> None:
    """pytest-xdist takes the number of the worker that has collected last; there may be nothing on that kernel."""
    session.testscollected = max(session.testscollected, session.config.stash.get(COLLECTED, 0))
