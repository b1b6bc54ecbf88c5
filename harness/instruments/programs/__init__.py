"""Programs that run in hosts, each a file of its own that needs nothing but the standard library."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent


def command(program: str, *arguments: object) -> list[str]:
    """The command line of one of them: this interpreter, without what is installed and what the user has set."""
    return [sys.executable, "-I", "-S", str(HERE / program), *map(str, arguments)]
