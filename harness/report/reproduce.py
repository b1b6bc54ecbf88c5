"""The command that makes exactly one cell, or one run of it, again."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.stored import Run

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
        words += [*files, "--claim", claim]
        words += ["-k", name] if len(runs) == 1 else []
    kernel = _kernel_option(runs[0])
    words += ["--kernel", kernel] if kernel else []
    words += dict.fromkeys(option for run in runs for option in _options(run))
    return shlex.join(words)


def _kernel_option(run: Run) -> str:
    """The value of --kernel that the run had: pytest puts it last into the brackets of the test's name."""
    inside = run.nodeid.rpartition("[")[2].removesuffix("]") if run.nodeid.endswith("]") else ""
    for kernel in (run.kernel["version"], RUNNING):
        if inside == kernel or inside.endswith(f"-{kernel}"):
            return kernel
    return ""


def _options(run: Run) -> list[str]:
    listed = run.data.get("options")
    return [str(one) for one in listed] if isinstance(listed, list) else []
