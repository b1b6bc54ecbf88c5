"""`harness compare --facts`: the sysctl defaults and the counters of two kernels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.errors import BadInput

if TYPE_CHECKING:
    from harness.cli.question import Question


def compare_facts(question: Question) -> int:
    """Print what two kernels have differently; the exit code."""
    from harness.cli.question import DIFFERENT, SAME, is_evidence, target
    from harness.kernels import facts
    from harness.report.output import write

    for word in question.words:
        if question.evidence or is_evidence(word):
            raise BadInput("--facts starts kernels and reads them: name kernels, not evidence")
    kernels = [target(word, question) for word in question.words]
    if question.selection:
        question.selection.is_no_use(" and ".join(question.words))
    machine = question.machine
    if machine:
        machine.is_had_by(kernels)
    both = [facts.of(each, Path.cwd(), machine.mode if machine else None) for each in kernels]
    differences = facts.differences(*both)
    if question.as_json:
        write("-", facts.as_json(differences))
    else:
        for heading, lines in differences.items():
            click.echo(f"{heading}: {len(lines) or 'none'}")
            for line in lines:
                click.echo(f"  {line}")
    return DIFFERENT if any(differences.values()) else SAME
