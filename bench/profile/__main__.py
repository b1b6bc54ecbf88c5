"""Where a run's time goes: runs the scenarios with measurements, prints tables, draws a picture.

    python -m bench.profile [--kernel 6.12] [--functions] [--output DIRECTORY] [words of pytest …]
    python -m bench.profile --read FILE [--before FILE] [--output DIRECTORY]

Without --kernel on the running kernel, in one process. Of a machine the cost is the processor time of its QEMU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from bench.profile import picture, table

PROJECT = Path(__file__).parents[2]


def run(kernel: str | None, file: Path, words: list[str], *, functions: bool) -> None:
    """Run the scenarios; a test that fails does not end it."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "bench.profile.plugin"]
    command += ["--profile-file", str(file), *(["--profile-functions"] if functions else [])]
    command += ["--tcp-evidence", str(file.with_name("evidence"))]
    command += ["--tcp-kernel", kernel] if kernel else []
    subprocess.run([*command, *(words or ["scenarios/"])], cwd=PROJECT, check=False)


def main() -> int:
    """Measure, or read what was measured, and show it."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__.partition("\n")[0])
    parser.add_argument("--kernel", help="in a machine with this kernel, in simulated time")
    parser.add_argument("--functions", action="store_true", help="sample functions, too: kernel, programs, Python")
    parser.add_argument("--read", type=Path, metavar="FILE", help="show what was measured before")
    parser.add_argument("--before", type=Path, metavar="FILE", help="compare with what was measured there")
    parser.add_argument("--output", type=Path, default=Path("out/profile"), metavar="DIRECTORY")
    parser.add_argument("--most", type=int, default=60, help="so many tests are listed (60)")
    asked, words = parser.parse_known_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    file = asked.read or asked.output / "profile.json"
    if asked.read is None:
        run(asked.kernel, file.resolve(), words, functions=asked.functions)
    measured = table.Measured.of(json.loads(file.read_text()))
    lines = [*table.lines(measured, asked.most)]
    if asked.before is not None:
        earlier = table.Measured.of(json.loads(asked.before.read_text()))
        lines = [*table.compared(earlier, measured, asked.most), "", *lines]
    text = "\n".join(lines)
    print(text)
    (asked.output / "profile.md").write_text(text + "\n")
    (asked.output / "profile.svg").write_text(picture.drawn(measured))
    print(f"\n{asked.output}/profile.md, profile.svg", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
