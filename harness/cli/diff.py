"""`harness diff`: what two kernels have differently."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.archive import archive_options

if TYPE_CHECKING:
    from harness.kernels.selection import Selection


@click.command()
@click.argument("first")
@click.argument("second")
@click.option("--claim", "claims", multiple=True, metavar="CLAIM", help="compare these claims only (repeatable)")
@click.option("--facts-only", is_flag=True, help="only sysctls and counters: run no scenario")
@archive_options
def diff(first: str, second: str, claims: tuple[str, ...], facts_only: bool, selection: Selection) -> None:
    """Show what differs between two kernels: verdicts, measurements, defaults of sysctls, counters."""
    from harness.kernels import facts, targets

    both = [targets.archived(selection.fetch(selection.choose([word])[0])) for word in (first, second)]
    if not facts_only:
        with tempfile.TemporaryDirectory(prefix="harness-diff-") as directory:
            _diff_of_claims([target.release for target in both], claims, Path(directory))
    for heading, lines in facts.differences(*(facts.of(target, Path.cwd()) for target in both)).items():
        click.echo(f"{heading}: {len(lines) or 'none'}")
        for line in lines:
            click.echo(f"  {line}")


def _diff_of_claims(kernels: list[str], chosen: tuple[str, ...], directory: Path) -> None:
    """Run the claims on both kernels, side by side, and print what came out differently."""
    from harness.claims.verdicts import side_by_side, verdict_of

    _run_side_by_side(kernels, chosen, directory)
    first, second = (_evidence(directory / kernel) for kernel in kernels)
    nothing: dict[str, list[str]] = {"runs": []}
    for claim in sorted({*first, *second}):
        sides = first.get(claim, nothing), second.get(claim, nothing)
        verdicts = [verdict_of(side) for side in sides]
        lines = side_by_side(*sides)
        if verdicts[0] != verdicts[1] or lines:
            click.echo(f"{claim}: {' -> '.join(dict.fromkeys(verdicts))}")
            for line in lines:
                click.echo(f"  {line}")


def _run_side_by_side(kernels: list[str], chosen: tuple[str, ...], directory: Path) -> None:
    processes = []
    for kernel in kernels:
        argv = [sys.executable, "-m", "pytest", "scenarios", "-q", "--kernel", kernel]
        argv += ["--evidence", str(directory / kernel)]
        argv += [word for claim in chosen for word in ("--claim", claim)]
        processes.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
    for process in processes:
        process.wait()


def _evidence(directory: Path) -> dict[str, Any]:
    """Each claim's evidence by its name."""
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(directory.glob("*.json"))}
