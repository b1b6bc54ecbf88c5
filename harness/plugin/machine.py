"""The process and its machine: whose the kernel is, when it isolates itself, what cannot be done here."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from harness.errors import Forbidden, GlobalSysctl, MissingProgram, Unsupported
from harness.plugin.options import in_pytest, setting
from harness.plugin.process import is_worker

if TYPE_CHECKING:
    from collections.abc import Iterator

WHEN = ("first-use", "startup")


def settle(config: pytest.Config) -> None:
    """Whose kernel it is, and whether `tcp_lab_isolation` says something."""
    if config.getoption("tcp_own_kernel"):
        from harness.lab import machine

        machine.take_over()
    if setting(config, "lab-isolation") not in WHEN:
        said = setting(config, "lab-isolation")
        raise pytest.UsageError(f"tcp_lab_isolation must be {' or '.join(WHEN)}, not {said!r}")


def isolate_early(config: pytest.Config) -> None:
    """Make an ordinary user's namespace while the process has one thread, if that is wished."""
    wanted = setting(config, "lab-isolation") == "startup" and not config.getoption("collectonly")
    if not wanted or os.geteuid() == 0 or is_worker(config):
        return
    from harness.lab.isolation import isolate

    # Where it is forbidden, tests without a lab can run all the same; those with one skip for the same reason.
    with suppress(Forbidden):
        isolate(user_only=True)


@contextmanager
def skipping() -> Iterator[None]:
    """What this machine cannot do is skipped, with the reason."""
    try:
        yield
    except (MissingProgram, Unsupported, Forbidden) as error:
        said = in_pytest(str(error))
        reason = f"needs a kernel of its own: {said}" if isinstance(error, GlobalSysctl) else said
        raise pytest.skip.Exception(reason, _use_item_location=True) from error
