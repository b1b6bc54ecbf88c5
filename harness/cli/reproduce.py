"""`harness reproduce`: a finding of a machine as a scenario for pytest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.archive import archive_options
from harness.cli.notes import note

if TYPE_CHECKING:
    from harness.kernels.selection import Selection

WRITTEN, NOT_HERE = 0, 1


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--finding", metavar="NAME", help="the finding to show, by its name or its number in `harness diagnose`")
@click.option("--output", "-o", default="-", show_default=True, metavar="FILE", help="where the scenario goes")
@click.option("--kernel", metavar="KERNEL", help="the kernel to run it on, as for pytest [default: the nearest]")
@archive_options
@click.pass_context
def reproduce(
    context: click.Context,
    *,
    files: tuple[Path, ...],
    finding: str | None,
    output: str,
    kernel: str | None,
    selection: Selection,
) -> None:
    """Write a scenario for pytest that shows what is wrong with a machine, with a control.

    FILE... are as for `harness diagnose`. Without --finding it takes the first finding that a lab can show.

    Exit code 0 if the scenario is written, 1 if there is nothing to show or no lab can show it, 2 for bad input.
    """
    from harness.desk.catalogue import case_of
    from harness.desk.experiment import CannotStand
    from harness.desk.nearest import nearest
    from harness.desk.scenario import file_name, render
    from harness.incident.read import read
    from harness.report.output import write

    machine = read(files)
    try:
        case = case_of(machine, finding)
    except CannotStand as error:
        note(str(error))
        context.exit(NOT_HERE)
    chosen = nearest(machine.version, kernel, case.experiment.BEFORE, lambda: selection)
    name = file_name(case) if output == "-" else output
    write(output, render(case, chosen, name))
    for other in case.others:
        note(f"the files show more: {other}")
    if output != "-":
        note(f"{case.finding.diagnosis} at {case.place}; run it: {chosen.command(output)}")
    context.exit(WRITTEN)
