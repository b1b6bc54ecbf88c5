"""python -m bench.breaks [NAME…]: the harness itself is broken, at one place at a time, and a test must fail for each.

bench/breaks.toml has the breaks: what is written in place of what, and the test that is to notice. Each is tried on a
copy of the project, on whose unbroken form the test must pass. Ends with 1 if a break was noticed by nobody.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]
TABLE = Path(__file__).with_suffix(".toml")
COPIED = (
    *("harness", "tests", "scenarios", "bench", "docs", "vagrant", ".ci"),
    *("conftest.py", "pyproject.toml", "Makefile", "README.md"),
)
LOCKS = ("requirements.lock", "plugins.lock", "fuzz.lock")
# pytest's exit status when tests have failed.
NOTICED = 1


@dataclass(frozen=True)
class Break:
    """What is broken, in which file, and how; the test that is to notice."""

    name: str
    what: str
    file: str
    before: str
    after: str
    test: str

    def applied(self, text: str) -> str:
        """The file's text, broken; ValueError unless what is to be replaced stands there once."""
        if text.count(self.before) != 1:
            raise ValueError(f"{self.name}: {self.before!r} stands {text.count(self.before)} times in {self.file}")
        return text.replace(self.before, self.after)


def breaks() -> list[Break]:
    """Those of the table."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return [Break(**row) for row in table["break"]]


def notices(tree: Path, test: str) -> int:
    """pytest's exit status for a test in a copy of the project."""
    argv = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    return subprocess.run(argv, cwd=tree, env=environment, check=False, capture_output=True).returncode


def tried(tree: Path, each: Break) -> str:
    """What came of a break: "" if it was noticed."""
    file = tree / each.file
    whole = file.read_text()
    file.write_text(each.applied(whole))
    try:
        status = notices(tree, each.test)
    finally:
        file.write_text(whole)
    if status == NOTICED:
        return ""
    return "nobody noticed" if status == 0 else f"pytest ended with {status}"


def main(words: list[str]) -> int:
    """Try them, print a line for each."""
    chosen = [each for each in breaks() if not words or each.name in words]
    missed = 0
    with tempfile.TemporaryDirectory(prefix="harness-breaks-") as directory:
        tree = Path(directory)
        for name in (*COPIED, *LOCKS):
            place = PROJECT / name
            if place.is_dir():
                shutil.copytree(place, tree / name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
            elif place.exists():
                shutil.copy(place, tree / name)
        sound = {test: notices(tree, test) for test in dict.fromkeys(each.test for each in chosen)}
        for each in chosen:
            why = f"its test does not pass without it ({sound[each.test]})" if sound[each.test] else tried(tree, each)
            missed += bool(why)
            print(f"{each.name:<28} {each.what}: {why or 'noticed by ' + each.test.rpartition('::')[2]}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} breaks were noticed")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
