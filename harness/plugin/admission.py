"""Where many workers share few processors, a test begins when these have room, or after some seconds.

Most tests wait for timers of the kernel, so there may be many more workers than processors. But all begin in the same
moment, and each works most when it begins: of a hundred processes some would be seconds late for what they measure.
Nothing is shared between workers, nor between runs: each looks for itself at how many processes want a processor, so
that those of other runs and other programs count as well.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.plugin import kernels
from harness.plugin.order import waiting_time
from harness.plugin.process import is_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

# How many workers there are for a processor before they get in each other's way.
CROWDED = 2
# How long a test is put off at most, in seconds: a share of it, drawn for each, so that where there is never room they
# still do not begin together.
PATIENCE = 12.0
# How long a test waits before a worker lets it look more often, and how often both look, in seconds.
LONG, SOON, LATER = 20.0, 0.04, 0.12
# proc_loadavg(5): the fourth field is how many processes and threads want a processor, and how many there are.
LOAD = Path("/proc/loadavg")


def begin(config: pytest.Config) -> None:
    """In a worker that shares its processors with many, put tests off where there is no room.

    One that has a kernel of its own has the processors of that machine for itself.
    """
    if not is_worker(config) or kernels.is_elsewhere(config):
        return
    processors = len(os.sched_getaffinity(0))
    workers: int = getattr(config, "workerinput", {}).get("workercount", 1)
    if workers > CROWDED * processors:
        config.pluginmanager.register(Admission(processors, wanting), "harness-admission")


def wanting() -> int:
    """How many others want a processor now; 0 where that cannot be read."""
    try:
        return int(LOAD.read_text().split()[3].partition("/")[0]) - 1
    except (OSError, ValueError, IndexError):
        return 0


class Admission:
    """Puts a test off while others want all processors."""

    def __init__(self, processors: int, others: Callable[[], int]) -> None:
        self._processors = processors
        self._others = others
        # Not the generator that tests draw from, and another one in each process.
        self._random = random.Random(os.getpid())

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Before anything of the test begins: no time of its own is counted yet."""
        self.wait(SOON if waiting_time(item) >= LONG else LATER)
        return (yield)

    def wait(self, pause: float) -> None:
        """Look every `pause` seconds whether there is room, for a share of PATIENCE at most."""
        until = time.monotonic() + self._random.uniform(0, PATIENCE)
        while self._others() > self._processors and time.monotonic() < until:
            time.sleep(pause)
