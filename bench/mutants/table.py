"""docs/mutants.md: which claim catches which mutant; and the trials that it is made of, kept beside the patches."""

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
# All trials of which the page tells, so that it can be made, and gone on with, where no kernel was built.
KEPT = Path(__file__).parent / "trials.json"
LONGEST = 220
NOT_TRIED = "not tried"
FAR = {"claims": "its claims alone were asked", "group": "its group alone was asked", "all": "all were asked"}


def write_trial(directory: Path, trial: Trial) -> None:
    """Keep a trial."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{trial.name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(trial)))


def read_trial(directory: Path, name: str, digest: str, kept: Path = KEPT) -> Trial | None:
    """The trial of a kernel, here or kept; None where there was none of what it is now."""
    try:
        here = msgspec.json.decode((directory / f"{name}.json").read_bytes(), type=Trial)
    except (OSError, msgspec.MsgspecError):
        here = None
    for trial in (here, *read_kept(kept)):
        if trial is not None and (trial.name, trial.digest) == (name, digest):
            return trial
    return None


def keep(trials: Sequence[Trial], kept: Path = KEPT) -> None:
    """Keep the trials of which a page tells."""
    kept.write_bytes(msgspec.json.format(msgspec.json.encode(trials), indent=1) + b"\n")


def read_kept(kept: Path = KEPT) -> list[Trial]:
    """The trials that were kept; none where there is no such file."""
    if not kept.exists():
        return []
    return msgspec.json.decode(kept.read_bytes(), type=list[Trial])


def page(kernel: str, trials: Sequence[tuple[Mutant, Trial | None]], base: Trial | None = None) -> str:
    """The whole page; `base` is what all scenarios made of the kernel without a defect."""
    tried = [trial for _, trial in trials if trial]
    fates = Counter(trial.fate for trial in tried)
    lines = [
        "# Mutants: do the scenarios notice a defect?",
        "",
        f"A small Linux {kernel} is built from Debian's `linux-source` package, and once more with each patch of",
        "`bench/mutants/patches/`, which makes one defect: which claim notices? `make mutants` builds these kernels,",
        "runs the scenarios on each in simulated time and writes this page: the claims that the patch names, then the",
        "group's, then all, up to the first that fails.",
        "[How to add one](adding-mutants.md).",
        "",
        f"{len(trials)} mutants: {fates['caught']} caught, {len(tried) - fates['caught']} not"
        + (f", {len(trials) - len(tried)} not tried." if len(tried) < len(trials) else "."),
        "",
        _of_base(base),
        "",
        *_by_group(trials),
    ]
    for group in sorted({mutant.group for mutant, _ in trials}):
        lines += ["", f"## {group}", "", "| mutant | file | what is wrong | kind | caught by | what it said |"]
        lines += ["| --- | --- | --- | --- | --- | --- |"]
        lines += [_row(mutant, trial) for mutant, trial in trials if mutant.group == group]
    return "\n".join(lines) + "\n"


def _of_base(base: Trial | None) -> str:
    if base is None:
        return "The kernel without a defect: its run of all scenarios is not among the results (`--base` makes it)."
    if base.survived:
        return "The kernel without a defect passes all scenarios."
    names = ", ".join(f"`{name}`" for name in sorted({catch.claim for catch in base.catches}))
    return f"The kernel without a defect does **not** pass all scenarios: {names or _short(base.died)}."


def _by_group(trials: Sequence[tuple[Mutant, Trial | None]]) -> list[str]:
    counts = Counter((mutant.group, _fate(trial)) for mutant, trial in trials)
    fates = ("caught", "survived", "broken", NOT_TRIED)
    lines = [f"| group | {' | '.join(fates)} |", "| --- | ---: | ---: | ---: | ---: |"]
    for group in sorted({mutant.group for mutant, _ in trials}):
        row = [str(counts[group, fate]) for fate in fates]
        lines.append(f"| {group} | {' | '.join(row)} |")
    return lines


def _fate(trial: Trial | None) -> str:
    return NOT_TRIED if trial is None else trial.fate


def _row(mutant: Mutant, trial: Trial | None) -> str:
    kind = mutant.kind + (", IPv6 alone" if mutant.family == "ipv6" else "")
    files = ", ".join(f"`{file}`" for file in mutant.files)
    cells = [f"`{mutant.name}`", files, mutant.title, kind]
    if trial and trial.catches:
        first = trial.catches[0]
        cells += [f"`{first.claim}`", _short(first.says)]
    else:
        cells += [
            NOT_TRIED if trial is None else f"**nothing** ({FAR[trial.stage]})",
            _short(trial.died) if trial else "",
        ]
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
