"""`harness shell`: a command and a shell in a machine, with a terminal and without."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from .conftest import OVER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Project

HARNESS = [sys.executable, "-c", "from harness.cli import main; main()", "shell"]


def test_what_a_shell_is_given_is_done_there(project: Project) -> None:
    """echo 'uname -r' | harness shell 6.12"""
    (kernel, *_), script = project.kernels, "uname -r; cat test_scenario.py | wc -l; echo error >&2; exit 7"
    ran = subprocess.run(
        [*HARNESS, kernel.release], cwd=project.directory, input=script, capture_output=True, text=True,
        check=False, timeout=project.left,
    )  # fmt: skip
    lines = len((project.directory / "test_scenario.py").read_text().splitlines())
    assert ran.stdout.split() == [kernel.release, str(lines)], ran.stderr
    assert ran.stderr.splitlines()[-1] == "error"
    assert ran.returncode == 7


class Terminal:
    """A terminal that is ours on one side, and a program's on the other."""

    def __init__(self, argv: list[str], directory: Path, seconds: float) -> None:
        self.ours, theirs = pty.openpty()
        self.until = time.monotonic() + seconds
        self.shown = ""
        self.process = subprocess.Popen(
            argv, cwd=directory, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env=os.environ | {"TERM": "xterm"},
        )  # fmt: skip
        os.close(theirs)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.ours, text.encode())

    def read_until(self, text: str) -> str:
        """Read until that is shown; what was shown before and with it."""
        while text not in self.shown:
            readable, _, _ = select.select([self.ours], [], [], max(0.0, self.until - time.monotonic()))
            if not readable:
                pytest.skip(OVER) if self.until - time.monotonic() <= 0 else None
            with contextlib.suppress(OSError):
                if data := os.read(self.ours, 1 << 16):
                    self.shown += data.decode(errors="replace")
                    continue
            raise AssertionError(f"{text!r} was never shown: {self.shown}")
        before, _, self.shown = self.shown.partition(text)
        return before + text


@contextlib.contextmanager
def terminal(project: Project, *argv: str) -> Iterator[Terminal]:
    """A program with a terminal; it ends with the block."""
    made = Terminal(list(argv), project.directory, project.left)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()
        os.close(made.ours)


def test_a_shell_has_a_terminal_and_its_status_is_ours(project: Project) -> None:
    with terminal(project, *HARNESS, project.kernels[0].release) as shell:
        shell.read_until("exit or Ctrl-] ends the machine")
        shell.read_until(f"root@{project.kernels[0].version}:")
        shell.type("test -t 0 && echo on $TERM in $(uname -r)\r")
        shell.read_until(f"on xterm in {project.kernels[0].release}")
        # Said by what is to be interrupted: by then it has the terminal.
        shell.type("sh -c 'echo be\"\"gun; exec sleep 100000000'\r")
        shell.read_until("begun")
        shell.type("\x03")
        shell.read_until("root@")
        shell.type("echo st''ill here; exit 5\r")
        shell.read_until("still here")
        assert shell.process.wait(timeout=60) == 5


def test_ctrl_bracket_ends_a_machine_in_which_nothing_listens(project: Project) -> None:
    with terminal(project, *HARNESS, project.kernels[0].release) as shell:
        shell.read_until(f"root@{project.kernels[0].version}:")
        shell.type("trap '' INT TERM HUP; echo de''af; while :; do :; done\r")
        shell.read_until("deaf")
        shell.type("\x1d")
        assert shell.process.wait(timeout=60) == 128 + 9


def test_a_kernel_that_runs_elsewhere_has_no_machine_of_ours(tmp_path: Path) -> None:
    ran = subprocess.run([*HARNESS, "running"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.stderr == "harness: running: it runs in no virtual machine; open a shell on that host yourself\n"
    assert ran.returncode == 2
