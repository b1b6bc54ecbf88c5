"""Writing what was made: to a file, whole or not at all, or to whatever else the user names."""

from __future__ import annotations

import sys
from pathlib import Path

from harness import files

STANDARD_OUTPUT = "-"


def write(target: str, content: str) -> None:
    """Write what was made; "-" is standard output. BadInput if it cannot be written."""
    if target == STANDARD_OUTPUT:
        sys.stdout.write(content)
        sys.stdout.flush()
        return
    with files.saying(Path(target), target):
        files.write(Path(target), content.encode("utf-8", errors="replace"))


def refuse(*targets: str | None) -> None:
    """BadInput for a target that cannot be written, before anything is made that is to go there."""
    for target in targets:
        if target and target != STANDARD_OUTPUT:
            files.refuse_unwritable(Path(target), target)
