"""Where a lab looks up the sysctls of its hosts: in an instance of procfs for every so many of them.

The kernel keeps what it has found in /proc/sys by folder and name, and `net` is one folder for all network namespaces.
So the `ipv4` of all of them, which is another folder for each, stand in one list, and a look for it goes through that
list (fs/proc/proc_sysctl.c, proc_sys_compare()). Another instance of procfs has a `net` of its own, and its own list.
"""

from __future__ import annotations

import contextlib
import os

from harness.lab import isolation

# A look at one more takes 0.3 µs, an instance 15 µs: with so many hosts each, both are little beside what a host costs.
HOSTS_EACH = 32


class Procfs:
    """An open folder of procfs for each new host: the machine's for the first hosts, then instances of our own.

    They are mounted nowhere: each ends when the next one begins, or with close(). Where the kernel refuses one, as in
    the user namespace of an ordinary user, hosts go on in the one before, which only takes longer. Before Linux 5.8
    (fa10fed30f25 "proc: allow to mount many instances of proc in one pid namespace") all are the machine's.
    """

    def __init__(self, hosts_each: int = HOSTS_EACH) -> None:
        self._hosts_each = hosts_each
        self._hosts = 0
        self._folder = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def folder(self) -> int:
        """The descriptor for the next host; good until the one after it."""
        if self._hosts == self._hosts_each:
            self._hosts = 0
            with contextlib.suppress(OSError):
                # The new one first: were the old one gone, a new one could have its device number.
                before, self._folder = self._folder, isolation.new_procfs()
                os.close(before)
        self._hosts += 1
        return self._folder

    def close(self) -> None:
        """Let go of it; once is enough."""
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1
