"""nginx whose workers are stopped: they have stopped when we are told so, however late a processor comes to it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.traffic.nginx import Nginx
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Pair

WORKERS = 4


def state(process: int) -> str:
    """proc(5): the third field of stat."""
    return Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("whole", [True, False])
def test_who_is_stopped_has_stopped(pair: Pair, *, whole: bool) -> None:
    nginx = Nginx(pair.server, "80 backlog=20", workers=WORKERS)
    processor = min(os.sched_getaffinity(0))
    for worker in nginx.workers():
        until(partial(nginx._sockets_of, worker), what="a worker that waits at its socket")
        # It gets that processor long after whoever wants it more.
        os.sched_setaffinity(worker, {processor})
        os.setpriority(os.PRIO_PROCESS, worker, 19)
        # Where sessions have shares, that of nginx's (sched(7), "The autogroup feature").
        with contextlib.suppress(OSError):
            Path("/proc", str(worker), "autogroup").write_text("19")
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            os.sched_setaffinity(busy.pid, {processor})
            for _ in range(5):
                if whole:
                    nginx.stall()
                    assert [state(worker) for worker in nginx.workers()] == ["T"] * WORKERS
                else:
                    assert state(nginx.stall_one()) == "T"
                nginx.resume()
        finally:
            busy.kill()
