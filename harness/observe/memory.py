"""What the kernel's memory goes to: the objects of one kind, and the totals."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.errors import Forbidden, Unsupported

SLABINFO = Path("/proc/slabinfo")
MEMINFO = Path("/proc/meminfo")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Cache:
    """The objects of one kind, of the whole machine: how many are in use, and what they take.

    `objects` counts those in use, and free ones that a processor keeps at hand; `size` is bytes an object, `each`
    bytes an object with its share of what the pages leave over; `taken` is the bytes of all its pages.
    """

    name: str
    objects: int
    size: int
    each: float
    taken: int


def cache(name: str) -> Cache:
    """One cache of /proc/slabinfo, say tw_sock_TCP.

    Raises Forbidden for an ordinary user, Unsupported where the kernel has merged it with others of the same size or
    has none.
    """
    found = caches(name)
    if name not in found:
        raise Unsupported(f"{SLABINFO} has no {name}: the kernel keeps its objects with others of the same size")
    return found[name]


def caches(*names: str) -> dict[str, Cache]:
    """Those caches of /proc/slabinfo that the kernel has of its own, in one reading.

    For each line the kernel counts the objects of its cache, so that no more lines are read than needed. Raises
    Forbidden for an ordinary user, Unsupported where there is no such file.
    """
    found: dict[str, Cache] = {}
    try:
        with SLABINFO.open() as lines:
            for line in lines:
                name = line.partition(" ")[0]
                if name in names:
                    found[name] = parse_cache(line)
                    if len(found) == len(set(names)):
                        break
    except PermissionError:
        raise Forbidden(f"{SLABINFO} is readable for root of the machine alone") from None
    except FileNotFoundError:
        raise Unsupported(f"the running kernel has no {SLABINFO} (CONFIG_SLUB_DEBUG)") from None
    return found


def parse_cache(line: str) -> Cache:
    """Parse a line of slabinfo 2.1: name active objects size per-slab pages : tunables … : slabdata active slabs …."""
    fields, _, slabs = (part.split() for part in line.split(":"))
    active, _, size, per_slab, pages = (int(word) for word in fields[1:6])
    slab = pages * PAGE
    return Cache(fields[0], active, size, slab / per_slab, int(slabs[2]) * slab)


def total(name: str) -> int:
    """A total of /proc/meminfo in bytes, which anybody may read: "SUnreclaim" (all slabs that stay), "VmallocUsed"."""
    for line in MEMINFO.read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise Unsupported(f"{MEMINFO} has no {name}")
