"""How a virtual machine runs: its time, its CPUs, its memory, and what its kernel is told beside what we tell it.

States of machines are kept by these: two that differ in one of them are never restored from one state.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING

import msgspec

from harness.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

MEBIBYTES = 3072
# In real time; simulated time has one CPU.
CPUS = 2
# QEMU's machine "pc" takes no more.
MOST_CPUS = 255
# What Linux reads of its command line on x86 (COMMAND_LINE_SIZE), less what it is told anyway, in bytes.
LONGEST = 2048 - 256
# So little does not even hold a kernel and the guest's interpreter.
LEAST_MEBIBYTES = 256
_UNITS = {"": 1, "M": 1, "G": 1 << 10}


class Mode(msgspec.Struct, frozen=True):
    """How a machine runs.

    `simulated` time counts instructions, of one CPU; otherwise time is real, with `cpus` CPUs. `memory` in MiB: some
    defaults of TCP depend on it. `append` are words for the kernel's command line; they come last.
    """

    simulated: bool = True
    memory: int = MEBIBYTES
    cpus: int = CPUS
    append: tuple[str, ...] = ()

    def name(self, accelerator: str) -> str:
        """What tells the states of machines apart that run differently; `accelerator` is that of real time."""
        parts = [f"simulated-{self.memory}"] if self.simulated else [f"real-{self.memory}-{self.cpus}-{accelerator}"]
        if self.append:
            parts.append(hashlib.sha256(" ".join(self.append).encode()).hexdigest()[:8])
        return "-".join(parts)

    def __str__(self) -> str:
        """For a reader: "simulated time, 3072 MB, nokaslr"."""
        time = "simulated time" if self.simulated else f"real time, {self.cpus} CPU{'s' * (self.cpus > 1)}"
        return ", ".join((time, f"{self.memory} MB", *self.append))


def mode(
    *, real_time: bool = False, cpus: str | None = None, memory: str | None = None, append: Sequence[str] = ()
) -> Mode:
    """The mode that a user's words ask for; BadInput, in one line, for what no machine can be."""
    return Mode(
        simulated=not real_time,
        memory=MEBIBYTES if memory is None else mebibytes(memory),
        cpus=CPUS if cpus is None else _cpus(cpus, real_time=real_time),
        append=_words(append),
    )


def mebibytes(text: str) -> int:
    """An amount of memory in MiB: "2048", "2048M", "2G"; BadInput for what is none, or more than this machine has."""
    match = re.fullmatch(r"(\d+)([MG]?)B?", text.strip().upper())
    if match is None:
        raise BadInput(f"--guest-memory {text}: write it in MB or GB: 2048, 2048M, 2G")
    amount = int(match[1]) * _UNITS[match[2]]
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    if not LEAST_MEBIBYTES <= amount <= here:
        raise BadInput(f"--guest-memory {text}: a machine can have {LEAST_MEBIBYTES} to {here} MB here")
    return amount


def _cpus(text: str, *, real_time: bool) -> int:
    if not re.fullmatch(r"\d{1,4}", text) or not 1 <= int(text) <= MOST_CPUS:
        raise BadInput(f"--guest-cpus {text}: a machine has 1 to {MOST_CPUS}")
    if int(text) > 1 and not real_time:
        raise BadInput(f"--guest-cpus {text}: simulated time counts the instructions of one CPU; for more, --real-time")
    return int(text)


def _words(append: Sequence[str]) -> tuple[str, ...]:
    words = tuple(stripped for text in append if (stripped := text.strip()))
    for text in words:
        if not text.isascii() or not text.isprintable():
            raise BadInput(f"--guest-append {text!r}: a kernel's command line has printable ASCII alone")
        if text.count('"') % 2:
            raise BadInput(f"--guest-append {text}: its quotation marks are not in pairs")
        if "clearcpuid" in text:
            raise BadInput(f"--guest-append {text}: clearcpuid is what machines of simulated time depend on")
    if len(" ".join(words)) > LONGEST:
        raise BadInput(
            f"--guest-append: a kernel reads no more than {LONGEST} characters beside what it is told anyway"
        )
    return words
