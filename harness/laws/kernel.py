"""The version of a kernel, exact enough to compare with the release that a commit first appeared in."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from functools import cache, total_ordering
from pathlib import Path

from harness.errors import BadInput

Release = tuple[int, int, int]

# Python takes no number of more than 4300 digits, and no kernel has one of more than three.
_NUMBER = re.compile(r"v?(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?(?:[-~.]?rc(\d{1,9}))?", re.IGNORECASE | re.ASCII)
# Debian's `uname -r` of before 2025 names the ABI (5.10.0-34-amd64), its `uname -v` the stable release; Ubuntu's
# /proc/version_signature ends with it.
_DEBIAN_BUILD = re.compile(r"\bDebian (\d+\.\d+(?:\.\d+)?(?:[~-]rc\d+)?)")
_UBUNTU_SIGNATURE = re.compile(r"^Ubuntu .* (\d+\.\d+(?:\.\d+)?)\s*$")


@total_ordering
@dataclass(frozen=True, eq=False)
class KernelVersion:
    """A kernel's release as three numbers, and as the kernel prints it.

    A release candidate counts as the release it leads to: nearly everything new in a release came before its rc1.
    """

    release: Release
    candidate: int | None = None
    printed: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str) -> KernelVersion:
        """Read "6.1", "5.10.234", "7.0-rc3", "6.18.44-fc-v669"; BadInput if it does not begin like one."""
        match = _NUMBER.match(text.strip())
        if match is None:
            raise BadInput(f"{text!r} is not a kernel version: write it like 6.1, 5.10.234 or 7.0-rc3")
        major, minor, patch, candidate = match.groups()
        return cls((int(major), int(minor), int(patch or 0)), int(candidate) if candidate else None, text.strip())

    @classmethod
    def from_uname(cls, release: str, build: str = "", signature: str = "") -> KernelVersion:
        """The version from `uname -r`, `uname -v` and /proc/version_signature (where a distribution has it)."""
        for pattern, text in ((_DEBIAN_BUILD, build), (_UBUNTU_SIGNATURE, signature)):
            if match := pattern.search(text):
                exact = cls.parse(match[1])
                return cls(exact.release, exact.candidate, release)
        return cls.parse(release)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            other = KernelVersion.parse(other)
        return self.release == other.release if isinstance(other, KernelVersion) else NotImplemented

    def __lt__(self, other: KernelVersion | str) -> bool:
        if isinstance(other, str):
            other = KernelVersion.parse(other)
        return self.release < other.release

    def __hash__(self) -> int:
        return hash(self.release)

    def __str__(self) -> str:
        return self.printed or ".".join(str(number) for number in self.release)


Age = tuple[Release, float, str]


def age(version: str, release: str = "") -> Age:
    """What sorts kernels from the oldest to the newest, by the version and, of one version, by the release.

    A release candidate comes before its release, and 6.1.0-9-amd64 before 6.1.0-10-amd64.
    """
    parsed = KernelVersion.parse(version)
    candidate = math.inf if parsed.candidate is None else parsed.candidate
    return parsed.release, candidate, re.sub("[0-9]+", lambda number: number[0].zfill(9), f"{version} {release}")


@cache
def running() -> KernelVersion:
    """The version of the kernel that this process runs on."""
    uname = os.uname()
    signature = Path("/proc/version_signature")
    return KernelVersion.from_uname(uname.release, uname.version, signature.read_text() if signature.exists() else "")
