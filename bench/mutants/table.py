"""docs/mutants.md: which claim catches which mutant."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bench.mutants.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.mutants.patches import Mutant

PAGE = Path(__file__).parents[2] / "docs" / "mutants.md"
LONGEST = 220


def write_trial(directory: Path, trial: Trial) -> None:
    """Keep a trial."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{trial.name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(trial)))


def read_trial(directory: Path, name: str, digest: str) -> Trial | None:
    """The trial of a kernel; None where there was none of what it is now."""
    try:
        trial = msgspec.json.decode((directory / f"{name}.json").read_bytes(), type=Trial)
    except (OSError, msgspec.MsgspecError):
        return None
    return trial if trial.digest == digest else None


def page(kernel: str, trials: Sequence[tuple[Mutant, Trial | None]]) -> str:
    """The whole page."""
    tried = [trial for _, trial in trials if trial]
    survived = [trial for trial in tried if trial.survived]
    lines = [
        "# Mutants: do the scenarios notice a defect?",
        "",
        f"A small Linux {kernel}, built from Debian's `linux-source` package, passes every scenario. Below",
        "are kernels that differ from it in one place, by a patch of `bench/mutants/patches/`: which claim notices?",
        "`make mutants` builds them, runs the scenarios on each in simulated time and writes this page:",
        "the claims that the patch names, then the group's, then all, up to the first that fails.",
        "",
        f"{len(trials)} mutants: {len(tried) - len(survived)} caught, {len(survived)} not"
        + (f", {len(trials) - len(tried)} not tried." if len(tried) < len(trials) else "."),
        "",
        *_by_group(trials),
    ]
    for group in sorted({mutant.group for mutant, _ in trials}):
        lines += ["", f"## {group}", "", "| mutant | what is wrong | kind | caught by | what failed |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        lines += [_row(mutant, trial) for mutant, trial in trials if mutant.group == group]
    return "\n".join(lines) + "\n"


def _by_group(trials: Sequence[tuple[Mutant, Trial | None]]) -> list[str]:
    counts = Counter((mutant.group, _fate(trial)) for mutant, trial in trials)
    lines = ["| group | caught | survived | not tried |", "| --- | ---: | ---: | ---: |"]
    for group in sorted({mutant.group for mutant, _ in trials}):
        row = [str(counts[group, fate]) for fate in ("caught", "survived", "not tried")]
        lines.append(f"| {group} | {' | '.join(row)} |")
    return lines


def _fate(trial: Trial | None) -> str:
    if trial is None:
        return "not tried"
    return "survived" if trial.survived else "caught"


def _row(mutant: Mutant, trial: Trial | None) -> str:
    kind = mutant.kind + (", IPv6 alone" if mutant.family == "ipv6" else "")
    cells = [f"`{mutant.name}`", mutant.title, kind]
    if trial is None or trial.survived:
        cells += ["**nothing**" if trial else "not tried", ""]
    else:
        first = trial.catches[0]
        cells += [f"`{first.claim}`", _short(first.says)]
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
