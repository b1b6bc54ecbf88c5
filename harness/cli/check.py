"""`harness check`: whether a kernel passes claims, with an exit code that `git bisect run` understands."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.archive import archive_options
from harness.cli.checking import INTERRUPTED, NOTHING_KNOWN, Check, answer
from harness.cli.machine import machine_options
from harness.cli.notes import note
from harness.errors import HarnessError
from harness.evidence.types import Verdict
from harness.scenarios import WHERE, place

if TYPE_CHECKING:
    from harness.cli.machine import Machine
    from harness.kernels.selection import Selection


class Bisectable(click.Command):
    """A command whose mistakes say nothing about a kernel: whatever goes wrong in it ends with 128 or more."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the command line."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            error.show()
            raise click.exceptions.Exit(NOTHING_KNOWN) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Do it."""
        try:
            return super().invoke(ctx)
        except click.exceptions.Exit:
            raise
        except HarnessError as error:
            note(str(error))
        except (KeyboardInterrupt, click.Abort):
            raise click.exceptions.Exit(INTERRUPTED) from None
        except Exception:  # a mistake of ours must not be taken for one of the kernel's
            traceback.print_exc()
        raise click.exceptions.Exit(NOTHING_KNOWN)


@click.command(cls=Bisectable)
@click.argument("kernel", metavar="KERNEL|TREE|IMAGE")
@click.option("--claim", "claims", multiple=True, metavar="CLAIM", help="run this claim or group only (repeatable)")
@click.option(
    "--verdict", type=click.Choice([verdict.value for verdict in Verdict]),
    help="good is this verdict, whatever is expected of the kernel's version: around a change that was meant",
)  # fmt: skip
@click.option("--skip-unbootable", is_flag=True, help="a kernel that does not boot cannot be tested [it is bad]")
@click.option(
    "--scenarios", default=place, show_default=WHERE, metavar="DIR", type=click.Path(path_type=Path),
    help="the scenarios to run",
)  # fmt: skip
@click.option("--evidence", metavar="DIR", type=click.Path(path_type=Path), help="keep the evidence there")
@machine_options
@archive_options
@click.pass_context
def check(
    context: click.Context,
    *,
    kernel: str,
    claims: tuple[str, ...],
    verdict: str | None,
    skip_unbootable: bool,
    scenarios: Path,
    evidence: Path | None,
    machine: Machine,
    selection: Selection,
) -> None:
    """Does a kernel pass its claims? For people, and for `git bisect run`.

    The kernel is whatever pytest's --tcp-kernel takes: a built tree, an image, 6.12. A failure begins with the
    number that changed: "waiting: 8, must be 9". It builds nothing: run `make` first. Of a tree it takes the image
    that is there.

    Exit code 0: good, each claim came out as expected of the kernel's version, or as --verdict says. 1: bad, one did
    not, or the kernel does not boot. 125: it cannot be tested: it lacks an option that labs need, a claim is not
    settled on it, or, with --skip-unbootable, it does not boot. 128 or more: nothing is known about the kernel (wrong
    use, no such image, no QEMU), and git bisect stops.
    """
    wanted = None if verdict is None else Verdict(verdict)
    asked = Check(kernel, claims, wanted, skip_unbootable, scenarios, evidence, selection, machine)
    context.exit(answer(asked))
