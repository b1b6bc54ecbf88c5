"""A thread that keeps a rate comes before others that only want to get on with their work.

Where the kernel groups processes by session (sched(7), "The autogroup feature") or by control group, it comes before
the others of its group, and the group has its share as before.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# setpriority(2): ten times the share of a thread that asked for nothing, and its turn comes as much sooner.
AHEAD = -10


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """In this block the thread comes first, where this process may (CAP_SYS_NICE); it should mostly wait.

    Linux has a priority for each thread (sched(7), "The nice value").
    """
    thread = threading.get_native_id()
    before = os.getpriority(os.PRIO_PROCESS, thread)
    # An ordinary user comes late on a busy machine, and says so.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, min(before, AHEAD))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, before)
