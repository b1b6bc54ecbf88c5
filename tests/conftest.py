"""What tests of the harness share: sessions of pytest of their own, examples without a deadline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.incomplete import pytest_addoption, pytest_sessionfinish, pytest_terminal_summary

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["pytest_addoption", "pytest_sessionfinish", "pytest_terminal_summary", "session"]

PROJECT = Path(__file__).parents[1]

# Where Hypothesis keeps the examples that have failed, if nobody says otherwise.
EXAMPLES = Path(os.environ.get("HYPOTHESIS_STORAGE_DIRECTORY", ".hypothesis"), "examples").absolute()


def can_keep_examples() -> bool:
    """Whether this user can write there: in somebody else's clone Hypothesis would warn, and a warning is an error."""
    nearest = next(place for place in (EXAMPLES, *EXAMPLES.parents) if place.exists())
    return os.access(nearest, os.W_OK | os.X_OK)


# On a busy machine any example takes longer than Hypothesis allows one.
settings.register_profile("untimed", deadline=None)
settings.register_profile("untimed-read-only", deadline=None, database=None)
settings.load_profile("untimed" if can_keep_examples() else "untimed-read-only")


@pytest.fixture
def session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Run pytest, with the harness's plugin, on the files made with `pytester`; a test that uses it loads that plugin.

    Each time in a process of its own: after a session within this one, pytester takes back all modules that
    it was the first to import. What had kept an object of such a module (a compiled grammar) would then meet
    exceptions that are not those it knows, in whatever test comes next.
    """
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    pytester.makeconftest('pytest_plugins = ["harness.plugin"]')

    def run(*options: str) -> pytest.RunResult:
        # Hypothesis's summary would import all of it.
        return pytester.runpytest_subprocess("-p", "no:hypothesispytest", "-p", "no:cacheprovider", *options)

    return run
