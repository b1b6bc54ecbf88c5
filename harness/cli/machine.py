"""The options that say in which machine a kernel runs, for the commands that start one."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from harness.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.kernels.mode import Mode
    from harness.kernels.targets import Target


class Machine(NamedTuple):
    """The machine that was asked for: how it runs, and the options that said so, as they were typed.

    What was not typed is the settings' of a project, which the pytest that a command starts reads.
    """

    mode: Mode
    typed: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """The options of pytest that say the same, for a pytest that a command starts."""
        return [f"--tcp-{word.removeprefix('--')}" for word in self.typed]

    def words_for(self, target: Target) -> list[str]:
        """Those of a pytest on a kernel: none where it runs in no machine of ours."""
        return self.words if target.is_virtual else []

    def is_had_by(self, targets: Sequence[Target]) -> None:
        """BadInput where a machine was asked for and none of these kernels runs in one."""
        if targets and not any(target.is_virtual for target in targets):
            self.is_no_use(" and ".join(target.name or target.names[0] for target in targets))

    def is_no_use(self, what: str) -> None:
        """BadInput, if a machine was asked for, that `what` does not run in one."""
        if self.typed:
            raise BadInput(f"{what}: it runs in no virtual machine; leave out {' '.join(self.typed)}")

    def of_nothing(self, why: str) -> None:
        """BadInput, if a machine was asked for, that none is started."""
        if self.typed:
            raise BadInput(f"{' '.join(self.typed)}: no kernel is started: {why}")


def machine_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options, and `machine`: how it is to run."""

    @functools.wraps(command)
    def with_machine(
        real_time: bool, guest_cpus: str | None, guest_memory: str | None, guest_append: tuple[str, ...], **others: Any
    ) -> None:
        from harness.kernels.mode import mode

        asked = mode(real_time=real_time, cpus=guest_cpus, memory=guest_memory, append=guest_append)
        typed = (
            *(("--real-time",) if real_time else ()),
            *(() if guest_cpus is None else (f"--guest-cpus={guest_cpus}",)),
            *(() if guest_memory is None else (f"--guest-memory={guest_memory}",)),
            *(f"--guest-append={text}" for text in guest_append),
        )
        command(machine=Machine(asked, typed), **others)

    for option in (
        click.option(
            "--guest-append", metavar="WORDS", multiple=True, help="words for the kernel's command line (repeatable)"
        ),
        click.option("--guest-memory", metavar="SIZE", help="the memory of the machine: 2G, 2048M (default: 3G)"),
        click.option("--guest-cpus", metavar="N", help="the CPUs of the machine, with --real-time (default: 2)"),
        click.option("--real-time", is_flag=True, help="run the machine in real time (default: simulated time)"),
    ):
        with_machine = option(with_machine)
    return with_machine
