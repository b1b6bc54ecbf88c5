"""`harness snapshot`: the program that looks at a machine, to be copied to it."""

from __future__ import annotations

import click


@click.command()
@click.option("--output", "-o", default="-", show_default="standard output", help="the file to write")
def snapshot(output: str) -> None:
    """Print a Python program that takes a snapshot of a machine. Copy it to any Linux machine and run it there.

    It prints what the kernel says of TCP as JSON, with pseudonyms for addresses and names, and changes nothing.
    It needs Python 3.6 or newer and no root; root sees other network namespaces, and the processes of others.
    """
    from harness.incident.snapshot import program
    from harness.report.output import write

    write(output, program())
