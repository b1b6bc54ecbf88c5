"""The ways in which the harness can fail, a class a kind; every message says what, where and what to do."""

from __future__ import annotations

import warnings


class HarnessError(Exception):
    """Base of all errors that the harness raises on purpose."""


class BadInput(HarnessError):
    """Something the user wrote (an option, a filter, a topology) cannot be understood."""


class ClaimError(BadInput):
    """A claim file is malformed or names a claim that does not exist."""


class Forbidden(HarnessError):
    """The machine does not grant a right that is needed; the message names the setting."""


class Unsupported(HarnessError):
    """The running kernel lacks what is needed; the message names it."""


class MissingProgram(HarnessError):
    """A program of the distribution is not installed.

    Attributes: program, the command's name; package, the Debian package that brings it; in_guest, whether it is missing
    in a virtual machine of ours, which has of this machine's programs what it was given.
    """

    def __init__(self, program: str, package: str, in_guest: bool = False) -> None:
        advice = (
            f"{program} is not in this virtual machine; pytest's --tcp-guest-program {program} brings it from the "
            f"machine outside, --tcp-guest-package {package} if it is not installed there"
        )
        super().__init__(advice if in_guest else f"{program} is not installed; on Debian: apt-get install {package}")
        self.program = program
        self.package = package
        self.in_guest = in_guest

    def __reduce__(self) -> tuple[type[MissingProgram], tuple[str, str, bool]]:
        return type(self), (self.program, self.package, self.in_guest)


class ProgramFailed(HarnessError):
    """A program in a host ended with an error; the message has its command line and output."""


class UnknownSysctl(BadInput):
    """No sysctl of that name exists on the running kernel; the message has the nearest names."""


class GlobalSysctl(Unsupported):
    """The sysctl is the whole machine's, not a namespace's: setting it here would leak."""


class SysctlRefused(HarnessError):
    """The kernel did not take the value: it refused the write, or reads back another one."""


class NotReady(HarnessError):
    """A condition was not met before its deadline."""


class CounterMissing(HarnessError):
    """The running kernel does not count what was asked for."""


class WorkerLost(HarnessError):
    """The process that ran a test, or the machine that it ran in, is no more."""


class KernelComplained(HarnessError):
    """The kernel has warned, or worse, while a test ran; the message is the line that names the matter."""


class Renamed(DeprecationWarning):
    """Something has another name now; the old one works for one release."""


def renamed(old: str, new: str) -> None:
    """Say that a name has changed, once for each place that uses the old one."""
    warnings.warn(f"{old} is {new} now; the old name goes with the next release", Renamed, stacklevel=3)
