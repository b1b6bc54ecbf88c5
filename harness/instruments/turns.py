"""Experiments that need the machine's memory or processors for themselves take turns."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def alone() -> Iterator[None]:
    """Only one experiment at a time is within, of all processes that run this copy of the harness.

    The others wait. What does not ask for a turn goes on meanwhile.
    """
    with Path(__file__).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
