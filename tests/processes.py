"""Whether a process has ended."""

from __future__ import annotations

from pathlib import Path


def running(pid: int) -> bool:
    """Whether a process exists and is no zombie: in a container the first process may bury no orphan."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
