"""Writing what was made: to a file, whole or not at all, or to whatever else the user names."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

from harness.errors import BadInput
from harness.evidence.codec import write_whole


def write(target: str, content: str) -> None:
    """Write a file, whole or not at all; "-" is standard output. BadInput if it cannot be written.

    What is there and is no file (a device, a pipe) is written into; a link stays, and what it leads to is replaced.
    """
    if target == "-":
        sys.stdout.write(content)
        sys.stdout.flush()
        return
    file = Path(target)
    encoded = content.encode("utf-8", errors="replace")
    try:
        if _is_special(file):
            with file.open("wb") as stream:
                stream.write(encoded)
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file.resolve(), encoded)
    except (FileExistsError, NotADirectoryError):
        raise BadInput(f"{target}: cannot be written: {file.parent} is no directory") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"{target}: cannot be written: {why}") from None


def _is_special(file: Path) -> bool:
    try:
        mode = file.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
