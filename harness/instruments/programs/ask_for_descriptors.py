"""What setrlimit(RLIMIT_NOFILE) says to one limit after the other, and where descriptors end under the one in force.

    python -I -S ask_for_descriptors.py USER '[LIMIT, …]' LONGEST

LIMITs are soft and hard at once; nothing is undone. Who may not raise a hard limit is also asked for the hard limit and
one more. Descriptors are opened if the limit in the end is LONGEST or less: a table of so many is made. It says all in
one line of JSON. Nothing but the standard library: it runs without the harness.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import sys

CAP_SYS_RESOURCE = 24
LIBC = ctypes.CDLL(None, use_errno=True)


def become(user: int) -> None:
    """Give up root for an ordinary user."""
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def may_raise() -> bool:
    """Whether a hard limit may be raised: CAP_SYS_RESOURCE of the machine, not of a user namespace."""
    with open("/proc/self/status") as status, open("/proc/self/uid_map") as users:  # noqa: PTH123
        effective = int(status.read().partition("CapEff:")[2].split()[0], 16)
        return bool(effective >> CAP_SYS_RESOURCE & 1) and users.read().split() == ["0", "0", "4294967295"]


def set_limit(limit: int) -> str:
    """The error of setrlimit(), or "ok". Through libc, because Python's refuses numbers that do not fit it."""
    pair = (ctypes.c_ulong * 2)(limit, limit)
    return errno.errorcode[ctypes.get_errno()] if LIBC.setrlimit(resource.RLIMIT_NOFILE, pair) else "ok"


def open_at(number: int) -> int | str:
    """The first free descriptor from this number on, opened, or the error."""
    try:
        return fcntl.fcntl(0, fcntl.F_DUPFD, number)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def main(user: int, asked: list[int], longest: int) -> None:
    """Ask, and say what was answered."""
    if user:
        become(user)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = may_raise()
    answers = {limit: set_limit(limit) for limit in [*asked, *([] if free else [hard + 1, hard])]}
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    last = [open_at(limit - 1), open_at(limit - 1)] if limit <= longest else []
    print(json.dumps({"hard": hard, "may_raise": free, "answers": answers, "limit": limit, "last": last}))


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]))
