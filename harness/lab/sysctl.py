"""Sysctls of one namespace: read back after each write, and never one that is the whole machine's."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from harness.errors import GlobalSysctl, SysctlRefused, UnknownSysctl
from harness.lab import isolation
from harness.lab.netns import Namespace

ROOT = Path("/proc/sys")


def _path(name: str) -> Path:
    """Dots separate, as in sysctl(8); a name with slashes may contain dots (an interface `eth0.7`)."""
    parts = name.split("/") if "/" in name else name.split(".")
    if any(part in ("", "..") for part in parts):
        raise UnknownSysctl(f"{name!r} is not the name of a sysctl")
    return ROOT.joinpath(*parts)


class Sysctls:
    """The sysctls of a namespace as a mapping from dotted name to value.

    `sysctls["net.ipv4.tcp_syncookies"] = 2` writes, reads back, and makes sure that the value did not leak into
    another namespace. Values read are strings with single spaces between fields. `changed` keeps, for each name that
    was set, the value before the first write and the value now.

    Errors: UnknownSysctl for a name that the kernel does not have (with the nearest names), GlobalSysctl for one that
    is not kept per network namespace, SysctlRefused for a value that the kernel does not take.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self.changed: dict[str, tuple[str, str]] = {}

    def __contains__(self, name: str) -> bool:
        with self._namespace:
            return name.startswith("net") and _path(name).is_file()

    def __getitem__(self, name: str) -> str:
        with self._namespace:
            return self._read(name)

    def __setitem__(self, name: str, value: object) -> None:
        wanted = " ".join(str(value).split())
        with self._namespace:
            before = self._read(name)
        outside = _outside(name)
        with self._namespace:
            self._write(name, wanted)
            got = self._read(name)
        if _outside(name) != outside:
            with self._namespace:
                self._write(name, before)
            raise GlobalSysctl(_global(name, "writing it changed other namespaces as well"))
        if got.split() != wanted.split():
            raise SysctlRefused(f"{name}: wrote {wanted!r}, the kernel reads back {got!r}")
        self.changed[name] = (self.changed.get(name, (before, ""))[0], got)

    def _read(self, name: str) -> str:
        try:
            return " ".join(_path(name).read_text().split())
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise self._missing(name) from None
        except OSError as error:
            raise SysctlRefused(f"{name}: cannot be read here: {error.strerror}") from None

    def _write(self, name: str, value: str) -> None:
        if not name.startswith("net"):
            raise GlobalSysctl(_global(name, "only net.* is kept per network namespace"))
        try:
            _path(name).write_text(value)
        except PermissionError:
            raise GlobalSysctl(_global(name, "it is read-only in a namespace")) from None
        except OSError as error:
            raise SysctlRefused(f"{name}: the kernel refuses {value!r}: {error.strerror}") from None

    def _missing(self, name: str) -> UnknownSysctl | GlobalSysctl:
        dotted = name.replace("/", ".")
        if dotted in isolation.world().machine_sysctls:
            return GlobalSysctl(_global(name, "no namespace but the initial one has it"))
        known = {*self.names(), *isolation.world().machine_sysctls}
        near = difflib.get_close_matches(dotted, known, n=3)
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
            return _path(name).read_text()
        except OSError:
            return None


def _global(name: str, why: str) -> str:
    return (
        f"{name} belongs to the whole machine on kernel {os.uname().release} ({why}); setting it here would leak. "
        "It can be set in a kernel of its own"
    )
