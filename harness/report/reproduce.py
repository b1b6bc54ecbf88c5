"""The command that makes exactly one cell, or one run of it, again."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.evidence.types import Run

# What pytest's -k takes for one word (_pytest/mark/expression.py).
_WORD = re.compile(r"[\w:+.\[\]\\/-]+")
RUNNING = "running"


def command(claim: str, runs: Sequence[Run]) -> str:
    """pytest's command line for these runs of a claim on one kernel; one run is picked out by its name."""
    words = ["pytest"]
    files = dict.fromkeys(run.nodeid.partition("::")[0] for run in runs)
    name = runs[0].nodeid.rpartition("::")[2]
    if len(runs) == 1 and not (_WORD.fullmatch(name) and name.endswith("]")):
        words.append(runs[0].nodeid)
    else:
        words += [*files, "--tcp-claim", claim]
        words += ["-k", name] if len(runs) == 1 else []
    kernel = _kernel_option(runs[0])
    words += ["--tcp-kernel", kernel] if kernel else []
    words += dict.fromkeys(_of_today(option) for run in runs for option in run.options)
    return shlex.join(words)


def _of_today(option: str) -> str:
    """An option as pytest has it: evidence from before 0.2 has --full-size for --tcp-full-size."""
    return option if option.startswith("--tcp-") else f"--tcp-{option.removeprefix('--')}"


def _kernel_option(run: Run) -> str:
    """The value of --tcp-kernel that the run had; "" for a kernel of somebody's own, whose name is not its path."""
    known = (run.kernel.version, run.kernel.release, RUNNING)
    return run.kernel_name if run.kernel_name in known else ""
