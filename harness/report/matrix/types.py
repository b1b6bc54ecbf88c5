"""The matrix as data: what each kernel was found to do, small enough to be kept beside the documentation."""

from __future__ import annotations

from typing import Literal

import msgspec


class Number(msgspec.Struct, frozen=True, omit_defaults=True):
    """A measurement that was held against a document: where, what, the values as text.

    `document` and `kernel` are what the document and our account of the kernel say; `tests` are the parameters of the
    runs that measured it, ipv4 and ipv6.
    """

    where: str
    what: str
    measured: str
    document: str
    kernel: str
    tests: tuple[str, ...] = ()


class Cell(msgspec.Struct, frozen=True, omit_defaults=True):
    """A claim on a kernel: the verdict, or why there is none, what makes it so, what was measured, how to repeat it.

    `commit`, `subject` and `release` are the change that made it so: the kernel's, or of `tool`.
    """

    said: str
    command: str
    because: str = ""
    commit: str = ""
    subject: str = ""
    release: str = ""
    tool: str = ""
    reason: str = ""
    runs: int = 1
    numbers: tuple[Number, ...] = ()
    left_out: int = 0


class ClaimRow(msgspec.Struct, frozen=True):
    """A claim, and its cells by the version of the kernel."""

    name: str
    statement: str
    sources: tuple[tuple[str, str], ...]
    cells: dict[str, Cell]

    @property
    def group(self) -> str:
        """The group of claims."""
        return self.name.partition(".")[0]


class KernelColumn(msgspec.Struct, frozen=True, omit_defaults=True):
    """A kernel: its release, when its evidence was made (a date), and by which version of the harness.

    `sysctls` are the values before anybody sets them, in a namespace that is new; `counters` the names that it counts.
    """

    version: str
    release: str
    measured: str = ""
    harness: str = ""
    sysctls: dict[str, str] = {}
    counters: tuple[str, ...] = ()


class Matrix(msgspec.Struct, frozen=True):
    """All of it: kernels from the oldest to the newest, claims by name."""

    schema: Literal[1]
    kernels: tuple[KernelColumn, ...]
    claims: tuple[ClaimRow, ...]
