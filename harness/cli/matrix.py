"""`harness matrix`: verdicts, numbers, defaults and counters by kernel, as data to look things up in."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.archive import archive_options
from harness.cli.notes import note

if TYPE_CHECKING:
    from harness.kernels.selection import Selection

PLACE = click.Path(path_type=Path)


@click.command()
@click.argument("directories", nargs=-1, metavar="[DIR]...", type=PLACE)
@click.option("--facts", "kernels", multiple=True, metavar="KERNEL", help="start this kernel and read its defaults and "
              "counters (repeatable)")  # fmt: skip
@click.option("--add-to", multiple=True, metavar="FILE", type=PLACE, help="a matrix to join with (repeatable); what "
              "comes later replaces what is there")  # fmt: skip
@click.option("--output", "-o", default="-", show_default="standard output", help="the JSON file to write")
@archive_options
def matrix(
    directories: tuple[Path, ...],
    kernels: tuple[str, ...],
    add_to: tuple[Path, ...],
    output: str,
    selection: Selection,
) -> None:
    """Make a matrix of the evidence in DIR...: each claim on each kernel, with its commit and what was measured.

    Of a test that several DIR have on a kernel, the last counts.

    With --facts it also has the default of each TCP sysctl and the counters of these kernels. The documentation shows
    the matrix that is in docs/matrix.json.

    \b
    Examples:
      harness matrix out/evidence -o matrix.json
      harness matrix runs/5.10 runs/6.12 --add-to docs/matrix.json -o docs/matrix.json
      harness matrix --facts 6.12 --facts running --add-to docs/matrix.json -o docs/matrix.json
    """
    from harness.cli.question import the_kernel
    from harness.kernels import facts
    from harness.report.matrix import making
    from harness.report.output import write

    if not directories and not kernels and not add_to:
        raise click.UsageError("name a directory with evidence, or a kernel: --facts 6.12")
    made = functools.reduce(making.join, [*map(making.load, add_to), making.of_evidence(directories)])
    targets = [the_kernel(word, selection) for word in kernels]
    selection.is_no_use(" and ".join(kernels) or "the matrix")
    for target in targets:
        note(f"reading the defaults and counters of {target.names[0]}")
        made = making.with_facts(made, facts.of(target, Path.cwd()))
    write(output, making.dump(made))
