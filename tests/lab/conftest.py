"""What several files of tests with labs share."""

from __future__ import annotations

import pytest

from harness.errors import Forbidden
from harness.lab import isolation


@pytest.fixture
def labs_work_here() -> None:
    """Isolate this process, which the sessions that a test runs inherit; skip where that is forbidden."""
    try:
        isolation.isolate()
    except Forbidden as error:
        pytest.skip(str(error))
