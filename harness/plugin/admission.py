"""Where many workers share few processors, a test begins when these have room, or patience is over.

Most tests wait for timers of the kernel, so there may be many more workers than processors. But all begin in the same
moment, and each works most when it begins: of a hundred processes some would be seconds late for what they measure.
What wanted to run all the time is no reason to wait again: a wait in vain shows how many those are.
Nothing is shared between workers, nor between runs: each looks for itself at how many processes want to run, so that
those of other runs and other programs count as well.

Only a project that asks for workers which are forks (`tcp_workers`) has so many of them.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import NotReady
from harness.plugin import kernels
from harness.plugin.forks import FORKED
from harness.plugin.options import setting
from harness.plugin.order import waiting_time
from harness.plugin.process import is_worker
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

# How many workers there are for a processor before they get in each other's way.
CROWDED = 2
# How long a worker waits for room, in seconds, a random time between half of this and all of it: where there is none,
# workers still do not begin together. A wait in vain halves it, down to the least; another doubles it again.
PATIENCE, LEAST = 40.0, 0.5
# Of those that always want to run so many for a processor are no reason to wait; more may well be other workers.
OTHERS = 2
# How long a test must wait for timers before its worker looks more often whether there is room, and how often both look
# at least, in seconds.
LONG, SOON, LATER = 20.0, 0.04, 0.15
# proc_loadavg(5): the fourth field is how many processes and threads want to run, and how many there are.
LOAD = Path("/proc/loadavg")


def begin(config: pytest.Config) -> None:
    """In a worker that shares its processors with many, put tests off where there is no room.

    Not in one that has a kernel of its own, nor where it may use some of the machine's processors alone: how many
    want to run on these is not known.
    """
    if not is_worker(config) or kernels.kernel_of(config) is not None or setting(config, "workers") != FORKED:
        return
    processors = len(os.sched_getaffinity(0))
    workers: int = getattr(config, "workerinput", {}).get("workercount", 1)
    if processors == os.cpu_count() and workers > CROWDED * processors:
        config.pluginmanager.register(Admission(processors, wanting), "harness-admission")


def wanting() -> int:
    """How many others want to run now; 0 where that cannot be read."""
    try:
        return int(LOAD.read_text().split()[3].partition("/")[0]) - 1
    except (OSError, ValueError, IndexError):
        return 0


class Admission:
    """Puts tests of a worker off while more want to run than there are processors, besides some that always do."""

    def __init__(self, processors: int, others: Callable[[], int]) -> None:
        self._processors = processors
        self._others = others
        self._patience = PATIENCE
        # How many want to run however long we wait: as many as did at the best moment of a wait in vain.
        self._always = 0
        # Not the generator that tests draw from, and another one in each process.
        self._random = random.Random(os.getpid())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Before anything of the test begins: no time of its own is counted yet."""
        self.wait(SOON if waiting_time(item) >= LONG else LATER)
        return (yield)

    def wait(self, pause: float) -> None:
        """Wait until there is room, or patience is over; look every `pause` seconds at least."""
        seen = []

        def has_room() -> bool:
            seen.append(self._others())
            self._always = min(self._always, seen[-1])
            return seen[-1] <= self._always + self._processors

        longest = self._random.uniform(self._patience / 2, self._patience)
        try:
            until(has_room, deadline=longest, what="a processor to be free", longest_pause=pause)
        except NotReady:
            self._always = min(*seen, OTHERS * self._processors)
            self._patience = max(LEAST, self._patience / 2)
        else:
            self._patience = min(PATIENCE, 2 * self._patience)
