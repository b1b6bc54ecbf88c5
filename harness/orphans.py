"""Processes: a child that does not outlive its parent, and a process that is held, so that no other is ended for it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal

# include/uapi/linux/prctl.h
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None)


def die_with_parent() -> None:
    """Let the kernel end this process when the thread that started it ends, however that happens (prctl(2))."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A process that may be somebody else's child, by a descriptor (pidfd_open(2)): its number may be another's soon.

    ProcessLookupError if there is none of that number; none has 1 or less: kill(2) takes those for many at once.
    """

    def __init__(self, pid: int) -> None:
        if pid <= 1:
            raise ProcessLookupError(f"{pid} is no process that is to be ended")
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    def __del__(self) -> None:
        descriptor = getattr(self, "_descriptor", None)
        if descriptor is not None:
            os.close(descriptor)

    def alive(self) -> bool:
        """Whether it has not ended; one that has is dead though its parent has not waited for it."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return not poll.poll(0)

    def signal(self, number: int) -> None:
        """Send it a signal; nothing if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)
