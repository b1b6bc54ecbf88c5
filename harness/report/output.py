"""Writing what was made: to a file, whole or not at all, or to whatever else the user names."""

from __future__ import annotations

import sys
from pathlib import Path

from harness import files

STANDARD_OUTPUT = "-"


def write(target: str, content: str) -> None:
    """Write what was made; "-" is standard output. BadInput if it cannot be written."""
    if target == STANDARD_OUTPUT:
        # The same bytes whatever the locale is: it may have no sign for a verdict, and JSON and HTML are in UTF-8.
        sys.stdout.flush()
        sys.stdout.buffer.write(content.encode("utf-8", errors="replace"))
        sys.stdout.buffer.flush()
        return
    with files.saying(Path(target), target):
        files.write(Path(target), content.encode("utf-8", errors="replace"))


def refuse(*targets: str | None) -> None:
    """BadInput for a target that cannot be written, before anything is made that is to go there."""
    for target in targets:
        if target and target != STANDARD_OUTPUT:
            files.refuse_unwritable(Path(target), target)
