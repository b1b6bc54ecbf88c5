"""What belongs to the whole machine: knobs that no namespace has of its own, to be set only in a kernel of our own.

On a shared kernel setting one is refused. Where the user says that the kernel is ours (pytest's --own-kernel, for a
virtual machine), it is set, and put back when the lab closes. The labs of several processes then take turns: a lab
that sets a knob of the machine waits until it is alone, and others wait until it has closed.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import GlobalSysctl, SysctlRefused, UnknownSysctl
from harness.lab import isolation

if TYPE_CHECKING:
    from collections.abc import Iterator

# Set for this process and the workers that it starts.
OWN_KERNEL = "TCP_HARNESS_OWN_KERNEL"
ROOT = Path("/proc/sys")


def take_over() -> None:
    """Note that the running kernel is ours: what is set machine-wide disturbs nobody."""
    os.environ[OWN_KERNEL] = "1"


def is_ours() -> bool:
    """Whether the running kernel is ours to set machine-wide knobs of."""
    return OWN_KERNEL in os.environ


def path_of(name: str) -> Path:
    """Dots separate, as in sysctl(8); a name with slashes may contain dots (an interface `eth0.7`)."""
    parts = name.split("/") if "/" in name else name.split(".")
    if any(part in ("", "..") for part in parts):
        raise UnknownSysctl(f"{name!r} is not the name of a sysctl")
    return ROOT.joinpath(*parts)


def belongs_to_all(name: str, why: str) -> GlobalSysctl:
    """The error that setting it here would leak."""
    return GlobalSysctl(
        f"{name} belongs to the whole machine on kernel {os.uname().release} ({why}); setting it here would leak. "
        "It can be set in a kernel of its own (--own-kernel)"
    )


class Turns:
    """The turn of this process among those that run labs on the same machine; only in a kernel of our own.

    The lock is on the network namespace that the machine's processes start in: all of them have it, and it needs no
    file in a shared place. Labs of one process share its turn.
    """

    def __init__(self) -> None:
        self._labs = 0

    def join(self) -> None:
        """A lab begins: wait until no other process wants the machine for itself."""
        self._labs += 1
        if self._labs == 1 and is_ours():
            self._lock(fcntl.LOCK_SH)

    def alone(self) -> None:
        """Wait until no other process has a lab. What others did meanwhile is undone by then."""
        self._lock(fcntl.LOCK_EX)

    def leave(self) -> None:
        """A lab has closed."""
        self._labs -= 1
        if self._labs == 0 and is_ours():
            self._lock(fcntl.LOCK_UN)

    @staticmethod
    def _lock(operation: int) -> None:
        # Converting a lock gives up the old one first (flock(2)), so two that wait to be alone do not block each other.
        fcntl.flock(isolation.world().machine, operation)


turns = Turns()


class MachineSysctls:
    """The sysctls of the whole machine as a mapping from dotted name to value, as seen from the initial namespace.

    Reading is free; writing is for a kernel of our own and lasts until restore(). `changed` as in Sysctls.

    Errors: GlobalSysctl on a shared kernel, or without the right; UnknownSysctl; SysctlRefused.
    """

    def __init__(self) -> None:
        self.changed: dict[str, tuple[str, str]] = {}

    def __contains__(self, name: str) -> bool:
        with _InMachine():
            return path_of(name).is_file()

    def __iter__(self) -> Iterator[str]:
        return iter(self.changed)

    def __getitem__(self, name: str) -> str:
        with _InMachine():
            return _read(name)

    def __setitem__(self, name: str, value: object) -> None:
        if not is_ours():
            raise belongs_to_all(name, "no namespace has one of its own")
        turns.alone()
        wanted = " ".join(str(value).split())
        with _InMachine():
            before = _read(name)
            _write(name, wanted)
            got = _read(name)
            if got.split() != wanted.split():
                _write(name, before)
                raise SysctlRefused(f"{name}: wrote {wanted!r}, the kernel reads back {got!r}")
        self.changed[name] = (self.changed.get(name, (before, ""))[0], got)

    def restore(self) -> None:
        """Put back what was changed."""
        if not self.changed:  # an ordinary user, who has changed nothing, may not even enter
            return
        with _InMachine():
            for name, (before, _) in self.changed.items():
                _write(name, before)
        self.changed.clear()


class _InMachine:
    """The calling thread in the network namespace that this process started in."""

    def __enter__(self) -> None:
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            isolation.setns(isolation.world().machine)
        except OSError as error:
            os.close(here)
            raise GlobalSysctl(f"the machine's own sysctls are out of reach of an ordinary user: {error}") from None
        self._here = here

    def __exit__(self, *_: object) -> None:
        isolation.setns(self._here)
        os.close(self._here)


def _read(name: str) -> str:
    try:
        return " ".join(path_of(name).read_text().split())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UnknownSysctl(f"{name}: kernel {os.uname().release} has no such sysctl") from None
    except OSError as error:
        raise SysctlRefused(f"{name}: cannot be read here: {error.strerror}") from None


def _write(name: str, value: str) -> None:
    try:
        path_of(name).write_text(value)
    except PermissionError:
        raise belongs_to_all(name, "and an ordinary user may not set it") from None
    except OSError as error:
        raise SysctlRefused(f"{name}: the kernel refuses {value!r}: {error.strerror}") from None
