"""python -m bench.complaints [KERNEL…]: what a kernel complains of fails its test, and no other? docs/complaints.md.

A KERNEL is debug (lockdep, hung tasks, UBSAN, …), kasan or kcsan. Each is built once, from Debian's linux-source, with
provoked.patch; provoke.py runs on it in simulated time. Exits with 1 if something is not as it must be.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from bench.complaints import kernels, seen
from harness.errors import HarnessError
from harness.kernels import places

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "complaints.md"
TESTS = "bench/complaints/provoke.py"
# A stall is one after two seconds: Documentation/admin-guide/kernel-parameters.txt.
SOONER = "watchdog_thresh=1"


def options() -> argparse.ArgumentParser:
    """What can be typed."""
    parser = argparse.ArgumentParser(prog="python -m bench.complaints", description=__doc__)
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help=f"{', '.join(kernels.KERNELS)} (all)")
    parser.add_argument(
        "--build", type=Path, default=places.cache() / "complaints", help="where to build (%(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="how many programs build at a time (%(default)s)")
    parser.add_argument("--compile", action="store_true", help="only build")
    return parser


def main(words: list[str]) -> int:
    """Build, run, look, write the page; 0 if all is as it must be, 1 if not, 2 if a kernel cannot be had."""
    asked = options().parse_args(words)
    if unknown := set(asked.kernels) - set(kernels.KERNELS):
        print(f"complaints: no kernel is called {', '.join(unknown)}: {', '.join(kernels.KERNELS)}", file=sys.stderr)
        return 2
    wrong: list[str] = []
    try:
        for name in asked.kernels or kernels.KERNELS:
            image = kernels.build(asked.build.absolute(), name, asked.jobs)
            if not asked.compile:
                found = seen.look(name, _run(name, image, asked.build.absolute() / "runs" / name))
                seen.keep(found)
                wrong += found.wrong()
    except (HarnessError, OSError) as error:
        print(f"complaints: {error}", file=sys.stderr)
        return 2
    PAGE.write_text(seen.page(), encoding="utf-8")
    for line in wrong:
        print(f"complaints: {line}", file=sys.stderr)
    return 1 if wrong else 0


def _run(name: str, image: Path, place: Path) -> Path:
    """Run the tests of a kernel; where all that a run leaves is."""
    place.mkdir(parents=True, exist_ok=True)
    for old in place.glob("*.*"):
        old.unlink()
    command = [
        *(sys.executable, "-m", "pytest", TESTS, "-p", "no:cacheprovider", "-v", "--tcp-kernel", str(image)),
        *("-k", f"{name} or hangs or meanwhile" if name == "debug" else name, f"--tcp-guest-append={SOONER}"),
        *("--tcp-evidence", str(place), "--junitxml", str(place / "junit.xml")),
        *("--tcp-report", str(place / "report.html"), "--tcp-ktap", str(place / "results.ktap")),
    ]
    with (place / "pytest.log").open("w", encoding="utf-8") as log:
        subprocess.run(command, cwd=PROJECT, check=False, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    return place


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
