"""The network namespaces that this user may see, and doing something inside each."""

import ctypes
import json
import os
import signal
import sys
from typing import Callable

from harness.incident.collector.places import identity_of, names
from harness.incident.collector.pseudonyms import Pseudonyms

CLONE_NEWNET = 0x40000000
NAMED = ("/run/netns/", "/run/docker/netns/")
MOST_NAMESPACES = 64


class Space:
    """A network namespace by a file that stands for it; the program's own has the name ""."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path

    def do(self, work: "Callable[[], object]") -> "object | None":
        """What `work` returns inside, in a process of its own; None where this user may not go in."""
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            _inside(self.path, writing, work)
        os.close(writing)
        with open(reading, "rb") as answer:
            said = answer.read()
        os.waitpid(child, 0)
        return json.loads(said.decode()) if said else None


def _inside(path: str, writing: int, work: "Callable[[], object]") -> None:
    """Go in, work, write, and end without going back to what the parent does."""
    status = 1
    try:
        signal.alarm(60)
        enter(path)
        with open(writing, "wb") as answer:
            answer.write(json.dumps(work()).encode())
        status = 0
    except OSError:
        pass
    finally:
        os._exit(status)


def enter(path: str) -> None:
    """Go into a network namespace; OSError where this user may not, or this Python has no way to."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if hasattr(os, "setns"):
            os.setns(descriptor, CLONE_NEWNET)
        elif ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    finally:
        os.close(descriptor)


def others(pseudonyms: Pseudonyms) -> "tuple[list[Space], int]":
    """The other namespaces, and how many more there were than are looked at."""
    # What may not be looked at counts as seen already.
    found = {identity_of("/proc/self/ns/net"): Space("", ""), (0, 0): Space("", "")}
    for directory in NAMED:
        for name in names(directory):
            identity = identity_of(directory + name)
            if identity not in found:
                found[identity] = Space(pseudonyms.name(name, "netns"), directory + name)
    for process in filter(str.isdigit, names("/proc")):
        path = "/proc/" + process + "/ns/net"
        identity = identity_of(path)
        if identity not in found:
            found[identity] = Space(pseudonyms.name("%d:%d" % identity, "netns"), path)
    spaces = [space for space in found.values() if space.path]
    return spaces[:MOST_NAMESPACES], max(0, len(spaces) - MOST_NAMESPACES)


def say(line: str) -> None:
    """A line for whoever runs the program."""
    sys.stderr.write("snapshot: " + line + "\n")
