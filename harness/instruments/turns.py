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
LONGEST = 900.0


@contextmanager
def alone() -> Iterator[None]:
    """Only one experiment at a time is within, of all runs on this machine, whatever copy of the harness they have.

    The others wait, up to a quarter of an hour (NotReady). What does not ask for a turn goes on meanwhile. The lock
    (flock(2)) is on the UTS namespace, which labs do not have for themselves: anybody can open his own, and the lock
    ends with the process.
    """
    with MACHINE.open() as file:

        def mine() -> bool:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            return False

        until(mine, deadline=LONGEST, what="the turn of an experiment that has the machine for itself")
        yield
