"""A child that does not outlive its parent."""

from __future__ import annotations

import ctypes
import signal

# include/uapi/linux/prctl.h
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None)


def die_with_parent() -> None:
    """Let the kernel end this process when the thread that started it ends, however that happens (prctl(2))."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
