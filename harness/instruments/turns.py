"""Experiments that need the machine's memory or processors for themselves take turns."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator


MACHINE = Path("/proc/self/ns/uts")
# In seconds.
LONGEST, PAUSE = 3600.0, 0.02


@contextmanager
def alone() -> Iterator[None]:
    """Only one experiment at a time is within, of all runs on this machine, whatever copy of the harness they have.

    The others wait, up to an hour (NotReady). What does not ask for a turn goes on meanwhile. The lock (flock(2)) is on
    the UTS namespace: labs stay in the machine's, every user may open it, and a lock ends with its process. A container
    that has its own takes turns only within itself.
    """
    with MACHINE.open() as file:

        def mine() -> bool:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            return False

        # All look equally often, however long they have waited: whoever came last would be first otherwise.
        until(
            mine, deadline=LONGEST, longest_pause=PAUSE, what=f"the turn to have the machine alone (lslocks: {MACHINE})"
        )
        yield
