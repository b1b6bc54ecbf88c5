"""Whether a machine that says nothing is alive.

In simulated time a healthy guest may compute for a minute of real time without a word, and one that waits has its clock
run on: silence alone means nothing. So QEMU is asked what it and its CPUs do.

What cannot be told from a healthy guest: one in which everything waits for something that never comes. Its clock runs
on, so whatever in it has a deadline ends at once; a test that waits for ever does so as on the running kernel.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Awaitable, Callable

    from qemu.qmp import QMPClient


class Watched(Protocol):
    """A virtual machine, as far as it is watched: QEMU's process, and a way to ask QEMU something."""

    process: subprocess.Popen[bytes]

    def asked(self, what: Callable[[QMPClient], Awaitable[Any]], seconds: float) -> Any:
        """What QEMU answers in that time; None if it does not."""


# After how many seconds of silence QEMU is asked, how often then, and how long it may take to answer.
SILENCE, EVERY, ANSWER = 3.0, 0.5, 2.0
# So many times in a row a sign of death has to be seen. Between two looks some hundred million instructions pass: a
# kernel that is busy has its interrupts disabled for a fifth of the time perhaps, but not at each look.
TIMES = 16
# A machine that runs, and one that reads its state.
HEALTHY = ("running", "inmigrate")
INTERRUPTS = 0x200  # EFLAGS.IF
# A look counts if the machine ran in between: so many seconds of a processor.
ENOUGH = 0.1
LATE = "late"


@dataclass
class Pulse:
    """Watches one machine: heard() when it has said something, otherwise wrong() now and then.

    `times`: how often in a row a sign of death has to be seen.
    """

    machine: Watched
    times: int = TIMES
    _silent_since: float = field(default_factory=time.monotonic)
    _looked: float = 0.0
    _used: float = 0.0
    _sign: str | None = None
    _seen: int = 0

    def heard(self) -> None:
        """The machine has said something."""
        self._silent_since = time.monotonic()
        self._seen = 0

    def wrong(self) -> str | None:
        """What is wrong with the machine, if that is certain; looks now and then, after some seconds of silence."""
        now = time.monotonic()
        if now - self._silent_since < SILENCE or now - self._looked < EVERY:
            return None
        self._looked = now
        used, states = _threads(self.machine.process.pid)
        ran, self._used = used - self._used, used
        state = None if states <= {"T", "t"} else self.machine.asked(_state, ANSWER)
        sign = _sign(ran, states, state)
        if sign == LATE:
            return None
        self._seen = self._seen + 1 if sign == self._sign else 1
        self._sign = sign
        return sign if self._seen >= self.times else None


@dataclass
class Turn:
    """How long a process has had its turn: the time for which it did not wait for a processor or a disk, in seconds.

    On a machine with much else to do that is little of the time that passes.
    """

    pid: int
    seconds: float = 0.0
    _looked: float = 0.0
    _used: float = 0.0

    def __post_init__(self) -> None:
        self._looked = time.monotonic()

    def look(self) -> float:
        """What it comes to by now; to be asked every second or so."""
        now = time.monotonic()
        used, states = _threads(self.pid)
        self.seconds += used - self._used if states & {"R", "D"} else now - self._looked
        self._looked, self._used = now, used
        return self.seconds


def _sign(ran: float, states: set[str], state: tuple[str, str] | None) -> str | None:
    """A sign of death that is seen now; a healthy machine may show one, but not at each look.

    `ran`: processor time since the last look, in seconds; `states`: of QEMU's threads; `state`: what it answered.
    """
    if not states:
        return LATE  # it has ended, which others notice
    if states <= {"T", "t"}:
        return "QEMU has been stopped by a signal"
    if state is None:
        # One that waits for a processor (R) or for a disk (D) is late, not dead.
        return LATE if ran or states & {"R", "D"} else "QEMU does not answer"
    status, registers = state
    if status not in HEALTHY:
        return f"QEMU says that it is {status}"
    # The kernel disables interrupts for moments, and never halts without them.
    cpus = [(int(flags, 16), halted == "1") for flags, halted in re.findall(r"[ER]FL=(\w+).*HLT=(\d)", registers)]
    silent = [halted for flags, halted in cpus if not flags & INTERRUPTS]
    if not silent:
        return None
    return "a CPU does not take interrupts any more" if any(silent) or ran >= ENOUGH else LATE


async def _state(control: Any) -> tuple[str, str]:
    """QEMU's own state, and the registers of its CPUs."""
    status = await control.execute("query-status")
    words = {"command-line": "info registers -a"}
    return str(status["status"]), str(await control.execute("human-monitor-command", words))


def _threads(pid: int) -> tuple[float, set[str]]:
    """Processor time that a process has used, in seconds, and the states of its threads (proc(5))."""
    ticks = 0
    states = set()
    for thread in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            fields = thread.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        states.add(fields[0])
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK"), states


async def within(seconds: float, what: Any) -> Any:
    """What comes of an awaitable in that time; None if nothing does, or the connection is broken."""
    from qemu.qmp import QMPError

    try:
        return await asyncio.wait_for(what, seconds)
    except (TimeoutError, QMPError, OSError, EOFError):
        return None
