"""python -m tests.fuzz [--keep] [TARGET…]: for FUZZ_SECONDS, half of it for what is made of types, half for bytes.

What is found is in out/fuzz/crashes, what reached new code in out/fuzz/corpus; with --keep the least of the latter that
reaches as much goes to tests/fuzz/corpus.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.fuzz import bounded
from tests.fuzz.bounded import fuzz
from tests.fuzz.targets import TARGETS

PROJECT = Path(__file__).parents[2]


def main() -> int:
    """Fuzz; 1 if something was found."""
    words = sys.argv[1:]
    keep = "--keep" in words
    names = [word for word in words if word != "--keep"] or list(TARGETS)
    if unknown := [name for name in names if name not in TARGETS]:
        print(f"{unknown[0]}: no target; there are {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    failed = []
    for name in names:
        ended = fuzz(name, bounded.seconds() / 2 / len(names), keep=keep)
        print(f"{name}: {'found something' if ended.returncode else 'nothing'}; {ended.stats}", flush=True)
        if ended.returncode:
            failed.append(name)
            print(ended.said)
    if len(words) == keep:
        made = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "tests/fuzz/test_made.py"], cwd=PROJECT, check=False
        )
        failed += ["made"] * bool(made.returncode)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
