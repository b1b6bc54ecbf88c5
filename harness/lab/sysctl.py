"""Sysctls of one namespace: read back after each write, and never one that is the whole machine's."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from harness.errors import GlobalSysctl, SysctlRefused, UnknownSysctl
from harness.lab import isolation, machine
from harness.lab.machine import ROOT, MachineSysctls, belongs_to_all, path_of
from harness.lab.netns import Namespace


class Sysctls:
    """The sysctls of a namespace as a mapping from dotted name to value.

    `sysctls["net.ipv4.tcp_syncookies"] = 2` writes, reads back, and makes sure that the value did not leak into
    another namespace. Values read are strings with single spaces between fields. `changed` keeps, for each name that
    was set, the value before the first write and the value now.

    What this kernel keeps for the whole machine counts in the namespace as well: `in` finds it, and in a kernel of our
    own it is read and set through `machine` (harness.lab.machine).

    Errors: UnknownSysctl for a name that the kernel does not have (with the nearest names), GlobalSysctl for one that
    is not kept per network namespace, SysctlRefused for a value that the kernel does not take.
    """

    def __init__(self, namespace: Namespace, machine: MachineSysctls | None = None) -> None:
        self._namespace = namespace
        self._machine = machine
        self.changed: dict[str, tuple[str, str]] = {}

    def __contains__(self, name: str) -> bool:
        with self._namespace:
            return name.startswith("net") and (path_of(name).is_file() or self._only_outside(name))

    def __getitem__(self, name: str) -> str:
        with self._namespace:
            if self._machine is not None and machine.is_ours() and self._only_outside(name):
                return self._machine[name]
            return self._read(name)

    def __setitem__(self, name: str, value: object) -> None:
        try:
            before, got = self._set(name, " ".join(str(value).split()))
        except GlobalSysctl:
            if self._machine is None or not machine.is_ours() or not name.startswith("net"):
                raise
            before = self._machine[name]
            self._machine[name] = value
            got = self._machine[name]
        self.changed[name] = (self.changed.get(name, (before, ""))[0], got)

    def _set(self, name: str, wanted: str) -> tuple[str, str]:
        """Write and read back in the namespace; the values before and after."""
        with self._namespace:
            before = self._read(name)
        outside = _outside(name)
        with self._namespace:
            self._write(name, wanted)
            got = self._read(name)
        if _outside(name) != outside:
            with self._namespace:
                self._write(name, before)
            raise belongs_to_all(name, "writing it changed other namespaces as well")
        if got.split() != wanted.split():
            raise SysctlRefused(f"{name}: wrote {wanted!r}, the kernel reads back {got!r}")
        return before, got

    def _only_outside(self, name: str) -> bool:
        """Whether the namespace, which the calling thread is in, lacks a knob that the machine has."""
        return name.replace("/", ".") in isolation.world().machine_sysctls and not path_of(name).is_file()

    def _read(self, name: str) -> str:
        try:
            return " ".join(path_of(name).read_text().split())
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise self._missing(name) from None
        except OSError as error:
            raise SysctlRefused(f"{name}: cannot be read here: {error.strerror}") from None

    def _write(self, name: str, value: str) -> None:
        if not name.startswith("net"):
            raise belongs_to_all(name, "only net.* is kept per network namespace")
        try:
            path_of(name).write_text(value)
        except PermissionError:
            raise belongs_to_all(name, "it is read-only in a namespace") from None
        except OSError as error:
            raise SysctlRefused(f"{name}: the kernel refuses {value!r}: {error.strerror}") from None

    def _missing(self, name: str) -> UnknownSysctl | GlobalSysctl:
        if self._only_outside(name):
            return belongs_to_all(name, "no namespace but the initial one has it")
        known = {*self.names(), *isolation.world().machine_sysctls}
        near = difflib.get_close_matches(name.replace("/", "."), known, n=3)
        hint = f"; near it: {', '.join(near)}" if near else ""
        return UnknownSysctl(f"{name}: kernel {os.uname().release} has no such sysctl{hint}")

    def names(self) -> list[str]:
        """The dotted names of all network sysctls of this namespace."""
        with self._namespace:
            return [
                ".".join((Path(folder) / file).relative_to(ROOT).parts)
                for folder, _, files in os.walk(ROOT / "net")
                for file in files
            ]


def _outside(name: str) -> str | None:
    """The value in the process's own namespace: the witness that a write did not leak."""
    with Namespace.of_this_process():
        try:
            return path_of(name).read_text()
        except OSError:
            return None
