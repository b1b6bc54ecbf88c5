"""`harness diff`: what `harness compare` was called before, for kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.cli.archive import archive_options
from harness.cli.notes import renamed

if TYPE_CHECKING:
    from harness.kernels.selection import Selection


@click.command(hidden=True)
@click.argument("first")
@click.argument("second")
@click.option("--claim", "claims", multiple=True, metavar="CLAIM", help="compare these claims only (repeatable)")
@click.option("--facts-only", is_flag=True, help="only sysctls and counters: run no scenario")
@archive_options
@click.pass_context
def diff(
    context: click.Context,
    *,
    first: str,
    second: str,
    claims: tuple[str, ...],
    facts_only: bool,
    selection: Selection,
) -> None:
    """Show what differs between two kernels: verdicts, measurements, defaults of sysctls, counters."""
    from harness.cli.compare import answer
    from harness.cli.question import Question

    words = (first, second)
    chosen = "".join(f" --claim {claim}" for claim in claims)
    renamed("harness diff", f"harness compare {first} {second}{chosen}, and harness compare {first} {second} --facts")
    code = 0 if facts_only else answer(Question(words, claims=claims, selection=selection))
    context.exit(max(code, answer(Question(words, "facts", selection=selection))))
