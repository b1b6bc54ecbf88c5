"""The listeners of this network namespace, how long their queues are now, and the processes that hold them."""

import os
import re
import time

from harness.incident.collector.diag import LISTENING, SKMEMINFO, Found, drops
from harness.incident.collector.places import names, text
from harness.incident.collector.proc_tcp import sockets
from harness.incident.collector.pseudonyms import Pseudonyms

MOST_LISTENERS = 500
# Seconds that a search through the open files of all processes may take.
SEARCH_PATIENCE = 3.0


class Watched:
    """Listeners that are looked at several times: [seconds, queue, limit, drops], kept when they have changed."""

    def __init__(self) -> None:
        self.looks = {}  # type: dict[tuple[bytes, int, int], list[list[int | float | None]]]
        self.way = ""
        self.left_out = 0

    def look(self) -> None:
        """One look: the queues of all listeners. What has not changed since the last look is not kept twice."""
        found, self.way = sockets(LISTENING, 1 << (SKMEMINFO - 1))
        now = time.time()
        for listener in found:
            key = listener.local + (listener.inode,)
            if key not in self.looks and len(self.looks) >= MOST_LISTENERS:
                self.left_out += 1
                continue
            self._note(self.looks.setdefault(key, []), now, listener)

    def _note(self, looks: "list[list[int | float | None]]", now: float, listener: Found) -> None:
        limit = listener.queues[1] if self.way == "inet_diag" else None
        look = [now, listener.queues[0], limit, drops(listener)]  # type: list[int | float | None]
        if len(looks) > 1 and looks[-1][1:] == look[1:] == looks[-2][1:]:
            looks[-1] = look
        else:
            looks.append(look)

    @property
    def ports(self) -> "set[int]":
        """The ports that somebody listens on."""
        return {port for _, port, _ in self.looks}

    def shown(self, pseudonyms: Pseudonyms) -> "list[dict[str, object]]":
        """The listeners as they are printed, with at most eight looks of each."""
        listed = []  # type: list[dict[str, object]]
        for (address, port, inode), looks in sorted(self.looks.items(), key=lambda item: item[0][1]):
            listed.append(
                {
                    "local": [pseudonyms.address(address), port],
                    "mark": str(inode),
                    "looks": telling(looks),
                }
            )
        return listed


def telling(looks: "list[list[int | float | None]]", most: int = 8) -> "list[list[int | float | None]]":
    """The first look, the last, and those with the longest queues, in their order."""
    if len(looks) <= most:
        return looks
    longest = sorted(looks[1:-1], key=lambda look: -(look[1] or 0))[: most - 2]
    return [looks[0]] + sorted(longest, key=lambda look: look[0] or 0) + [looks[-1]]


SOCKET = re.compile(r"^socket:\[([0-9]+)\]$")


def holders(inodes: "set[int]") -> "dict[int, list[int]]":
    """The processes that hold these sockets: those that this user may look into, as far as the time reaches."""
    found = {}  # type: dict[int, list[int]]
    until = time.monotonic() + SEARCH_PATIENCE
    for process in filter(str.isdigit, names("/proc")):
        for inode in _held(process, until):
            if inode in inodes and int(process) not in found.setdefault(inode, []):
                found[inode].append(int(process))
        if time.monotonic() > until:
            break
    return found


def _held(process: str, until: float) -> "set[int]":
    """The sockets that a process has open."""
    directory = "/proc/" + process + "/fd/"
    held = set()
    try:
        for number, file in enumerate(os.listdir(directory)):
            match = SOCKET.match(os.readlink(directory + file))
            if match:
                held.add(int(match.group(1)))
            if number % 1000 == 999 and time.monotonic() > until:
                break
    except OSError:
        pass
    return held


LIMIT = re.compile(r"^Max open files +(\S+) +(\S+)", re.MULTILINE)


def process(number: int) -> "dict[str, object]":
    """A process by its name, not by its command line; its limit of open files, and how many it has."""
    directory = "/proc/%d/" % number
    shown = {"number": number, "program": re.sub(r"[^\w.+-].*", "", text(directory + "comm").strip())}  # type: dict[str, object]
    limit = LIMIT.search(text(directory + "limits"))
    if limit:
        for name, value in zip(("files_soft", "files_hard"), limit.groups()):
            if value.isdigit():
                shown[name] = int(value)
    if os.access(directory + "fd", os.R_OK | os.X_OK):
        shown["files_open"] = len(names(directory + "fd"))
    return shown
