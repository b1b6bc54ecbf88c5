"""The options that say in which machine a kernel runs, for the commands that start one."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.kernels.mode import Mode


def machine_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options, and `mode`: how the machine is to run."""

    @functools.wraps(command)
    def with_mode(
        real_time: bool, guest_cpus: str | None, guest_memory: str | None, guest_append: tuple[str, ...], **others: Any
    ) -> None:
        from harness.kernels.mode import mode

        asked = mode(real_time=real_time, cpus=guest_cpus, memory=guest_memory, append=guest_append)
        command(mode=asked, **others)

    for option in (
        click.option("--guest-append", metavar="WORDS", multiple=True, help="words for the kernel's command line"),
        click.option("--guest-memory", metavar="SIZE", help="its memory: 2G, 2048M [3G]"),
        click.option("--guest-cpus", metavar="N", help="its CPUs, with --real-time [2]"),
        click.option("--real-time", is_flag=True, help="its time is real [it counts instructions]"),
    ):
        with_mode = option(with_mode)
    return with_mode


def words(mode: Mode) -> list[str]:
    """The options of pytest that say the same, for a pytest that a command starts."""
    from harness.kernels.mode import CPUS, MEBIBYTES

    return [
        *(() if mode.simulated else ("--tcp-real-time",)),
        *(() if mode.cpus == CPUS else (f"--tcp-guest-cpus={mode.cpus}",)),
        *(() if mode.memory == MEBIBYTES else (f"--tcp-guest-memory={mode.memory}M",)),
        *(f"--tcp-guest-append={text}" for text in mode.append),
    ]
