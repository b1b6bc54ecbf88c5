"""Building the package as a release is built, and an environment that has nothing but it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.lab import isolation

ROOT = Path(__file__).resolve().parents[2]
# The versions that requirements.lock pins, so that what a release of somebody else breaks is not our test.
PINNED = re.compile(r"^([\w.\[\]-]+==[^\s;]+(?: ; [^\\]+)?)", re.MULTILINE)


@dataclass(frozen=True)
class Installed:
    """A virtual environment, by its directory."""

    directory: Path

    @property
    def interpreter(self) -> Path:
        """Its Python."""
        return self.directory / "bin" / "python"

    def python(self, *words: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run its Python, with nothing of our own environment in the way."""
        return self._run(self.interpreter, words, cwd, variables)

    def harness(self, *words: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run its `harness`."""
        return self._run(self.directory / "bin" / "harness", words, cwd, variables)

    def files(self) -> set[Path]:
        """Every file in it."""
        return {file for file in self.directory.rglob("*") if "__pycache__" not in file.parts}

    def _run(
        self, program: Path, words: tuple[str, ...], cwd: Path, variables: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "COV"))}
        return subprocess.run(
            [*_outside(), program, *words], cwd=cwd, env=ours | variables, capture_output=True, text=True, check=False
        )


def _outside() -> list[str]:
    """What runs a program in the machine's network, where this process has left it for labs of its own."""
    made = isolation._made
    if not made or made[-1].pid != os.getpid() or isolation.in_user_namespace():
        return []
    return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{made[-1].machine}"]


def build(place: Path) -> tuple[Path, Path]:
    """The source archive, and the wheel that is made of it."""
    made = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", place, ROOT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return archives_in(place)


def archives_in(place: Path) -> tuple[Path, Path]:
    """The source archive and the wheel in a directory."""
    (source,), (wheel,) = place.glob("*.tar.gz"), place.glob("*.whl")
    return source, wheel


def install(wheel: Path, place: Path, python: str = sys.executable, *also: str) -> Installed:
    """An environment with the wheel and what it requires; the test is skipped where no package can be had."""
    there = Installed(place / "environment")
    subprocess.run([python, "-m", "venv", there.directory], check=True)
    constraints = place / "constraints.txt"
    constraints.write_text("\n".join(PINNED.findall((ROOT / "requirements.lock").read_text())))
    command = ["-m", "pip", "install", "--quiet", "--no-input", "-c", str(constraints), str(wheel), *also]
    done = there.python(*command, cwd=place)
    if done.returncode and re.search(r"NewConnectionError|Name or service not known|Temporary failure", done.stderr):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    return there
