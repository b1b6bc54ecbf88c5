"""Tests that make a kernel complain, and neighbours between them that do not: python -m bench.complaints runs them.

    pytest bench/complaints/provoke.py --tcp-kernel IMAGE -k debug

They pass on a kernel that does not complain, and so they do on any other than those of this directory.
"""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness.observe import kernel_log
from harness.traffic import connect, listen
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Pair

# provoked.patch: the mark less this is what listen() provokes.
PROVOKED = 0x1000
# LKDTM's file, by which it is asked for a crash (Documentation/fault-injection/provoke-crashes.rst).
DEBUGFS = Path("/sys/kernel/debug")
CRASH = DEBUGFS / "provoke-crash" / "DIRECT"
# khungtaskd looks every 120 s, so a task has hung for up to twice as long when it is found.
HUNG = 300.0


class Provoked(NamedTuple):
    """A test: which kernel it is for, its name, what it provokes, and of which kind the complaint is; "" for none."""

    kernel: str
    name: str
    which: int
    kind: str
    says: str = ""

    @property
    def id(self) -> str:
        """As it stands in the test's brackets."""
        return f"{self.kernel}-{self.name}"


def neighbour(kernel: str, number: int) -> Provoked:
    """A test that provokes nothing."""
    return Provoked(kernel, f"neighbour{number}", 0, "")


# In this order: lockdep says nothing more after it has found a wrong order.
TESTS = (
    neighbour("debug", 1),
    Provoked("debug", "warn", 3, "WARN", "WARNING: CPU: 0 PID: "),
    neighbour("debug", 2),
    Provoked("debug", "warns-again", 3, "WARN", "WARNING: CPU: 0 PID: "),
    Provoked("debug", "rcu-without-its-lock", 7, "lockdep", "WARNING: suspicious RCU usage"),
    Provoked("debug", "sleeps-under-a-spinlock", 5, "BUG", "BUG: sleeping function called from invalid context"),
    neighbour("debug", 3),
    Provoked("debug", "one-order-of-locks", 1, ""),
    Provoked("debug", "other-order-of-locks", 2, "lockdep", "WARNING: possible circular locking dependency detected"),
    neighbour("debug", 4),
    Provoked("debug", "shift", 6, "UBSAN", "UBSAN: shift-out-of-bounds in "),
    neighbour("debug", 5),
    Provoked("debug", "hung-task", 4, "hung task", "INFO: task "),
    neighbour("debug", 6),
    Provoked("debug", "stall", 8, "lockup", "watchdog: BUG: soft lockup"),
    neighbour("debug", 7),
    Provoked("debug", "taint", 9, "taint", "the kernel has become tainted: U"),
    neighbour("debug", 8),
    neighbour("kasan", 1),
    Provoked("kasan", "use-after-free", 10, "KASAN", "BUG: KASAN: slab-use-after-free in inet_csk_provoke"),
    neighbour("kasan", 2),
    neighbour("kcsan", 1),
    Provoked("kcsan", "data-race", 11, "KCSAN", "BUG: KCSAN: data-race in "),
    neighbour("kcsan", 2),
)
# Processes that never end; the machine does.
HANGING: list[subprocess.Popen[bytes]] = []
# Its complaint comes while the test after it runs.
LATE = Provoked("debug", "hangs-for-ever", 0, "hung task", "INFO: task sh:")


@pytest.mark.ipv4_only("once is enough")
@pytest.mark.parametrize("provoked", TESTS, ids=lambda provoked: provoked.id)
def test_listens(pair: Pair, provoked: Provoked) -> None:
    """A listener that provokes what it is told, and a connection: TCP goes on."""
    with pair.server.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, PROVOKED + provoked.which)
        listener.bind(("", 0))
        listener.listen()
    assert connect(pair.client, listen(pair.server), 1, wait=True).connected == 1


@pytest.fixture
def crash() -> Path:
    """LKDTM's file; skipped where the kernel has none."""
    if not CRASH.exists():
        subprocess.run(["mount", "-t", "debugfs", "none", DEBUGFS], check=False, capture_output=True)
    if not CRASH.exists():
        pytest.skip("this kernel has no LKDTM")
    return CRASH


def test_hangs_for_ever(crash: Path) -> None:
    """It is over before the kernel notices that a process of its own hangs."""
    HANGING.append(subprocess.Popen(["sh", "-c", f"echo HUNG_TASK > {crash}"]))
    until(lambda: Path(f"/proc/{HANGING[0].pid}/stat").read_text().rpartition(")")[2].split()[0] == "D")


@pytest.mark.ipv4_only("once is enough")
@pytest.mark.usefixtures("crash")
def test_meanwhile(pair: Pair) -> None:
    """It waits until the kernel has noticed, and is not to blame."""
    with kernel_log() as log:
        until(lambda: any("INFO: task sh:" in record.text for record in log.records()), deadline=HUNG)
    assert connect(pair.client, listen(pair.server), 1, wait=True).connected == 1
