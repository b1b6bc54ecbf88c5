"""Scenarios run on a kernel by a pytest of its own, which leaves its evidence in a directory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, NamedTuple

from harness import screen
from harness.orphans import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# pytest's exit codes of a session that ran to its end: all as expected, or something not.
PASSED, FAILED = 0, 1
WHOLE = (PASSED, FAILED)
NO_TESTS = 5
PATIENCE = 10.0


class Chosen(NamedTuple):
    """A kernel to run scenarios on: its name, what --tcp-kernel takes for it, and more words for its pytest."""

    name: str
    word: str
    how: Sequence[str] = ()


@dataclass
class Session:
    """A pytest that runs scenarios on a kernel.

    `evidence` is where it leaves what it measured, `junit` where it says what became of each test.
    """

    kernel: str
    evidence: Path
    junit: Path
    process: subprocess.Popen[bytes]
    said: IO[bytes]

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        return self.process.wait()

    def last_words(self, lines: int = 1) -> list[str]:
        """The last lines that it printed, without rulers."""
        self.said.seek(0)
        text = self.said.read().decode(errors="replace")
        printed = [line.strip("= ") for line in text.splitlines() if line.strip("=!-_ ")]
        return printed[-lines:]

    def shortfall(self) -> str:
        """What did not run, in a line; "" for a session that ran to its end and left evidence."""
        code = self.wait()
        if code == NO_TESTS:
            return f"{self.kernel} did not run: no scenario was chosen"
        left = self.evidence.is_dir() and any(self.evidence.glob("*.json"))
        if code in WHOLE and left:
            return ""
        what = "did not run to its end" if left else "did not run"
        return f"{self.kernel} {what}: pytest ended with {code}: {' '.join(self.last_words()) or 'it said nothing'}"


@contextmanager
def sessions(
    kernels: Sequence[Chosen], directory: Path, *, scenarios: Path, claims: Sequence[str] = ()
) -> Iterator[list[Session]]:
    """Run scenarios on kernels, all at once. The block begins when all have ended, and none outlives it."""
    running: list[Session] = []
    try:
        for name, word, how in kernels:
            evidence = directory / _folder(name, [session.evidence.name for session in running])
            words = [*(f"--tcp-claim={claim}" for claim in claims), *how]
            running.append(_start(name, word, evidence, scenarios, words))
        with screen.following(*map(_work, running)):
            for session in running:
                session.wait()
        yield running
    finally:
        for session in running:
            session.process.terminate()
        for session in running:
            try:
                session.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                session.process.kill()
                session.process.wait()
            session.said.close()
            _far_of(session.evidence).unlink(missing_ok=True)


def _work(session: Session) -> screen.Work:
    """How far a session is, for whoever looks."""
    return screen.Work(f"Linux {session.kernel}", lambda: screen.far(_far_of(session.evidence)), "tests")


def _far_of(evidence: Path) -> Path:
    return evidence.with_name(f"{evidence.name}.far")


def _start(name: str, word: str, evidence: Path, scenarios: Path, words: Sequence[str]) -> Session:
    # With "=": pytest takes a path that stands alone for a place of tests. The scenarios by their whole path: a machine
    # has no other directory in common with us than the project's.
    argv = [sys.executable, "-m", "pytest", str(scenarios.absolute()), "-q", "--tb=short", f"--tcp-kernel={word}"]
    junit = evidence.with_name(f"{evidence.name}.junit.xml")
    argv += [f"--tcp-evidence={evidence}", f"--junitxml={junit}", *words]
    said = tempfile.TemporaryFile()  # noqa: SIM115 - the session closes it
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=subprocess.STDOUT,
        env=os.environ | {screen.FAR: str(_far_of(evidence))},
        preexec_fn=die_with_parent,  # noqa: PLW1509 - one call of libc's
    )
    return Session(name, evidence, junit, process, said)


def _folder(name: str, taken: Sequence[str]) -> str:
    """A directory for a kernel, which is also what tells two runs of one release apart."""
    number, folder = 1, name
    while folder in taken:
        number += 1
        folder = f"{name}-{number}"
    return folder
