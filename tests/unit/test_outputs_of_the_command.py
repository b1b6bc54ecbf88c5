"""Where the command's output goes nowhere: a line and a status, or nothing at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-c", "from harness.cli import main; main()"]
EACH = pytest.mark.parametrize(
    "words", [("--version",), ("claims", "--help"), ("kernels", "config"), ("cache", "list")]
)


@EACH
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_is_full_is_one_line(
    words: tuple[str, ...], unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was a traceback, and status 1 or 120."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([*COMMAND, *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (
        2, "harness: standard output cannot be written: No space left on device\n",
    )  # fmt: skip


@EACH
def test_an_output_that_is_closed_is_no_output(words: tuple[str, ...]) -> None:
    """It was a traceback; and the next file that was opened would have got what is printed."""
    closed = ["sh", "-c", 'exec "$@" >&- <&-', "sh", *COMMAND, *words]
    ended = subprocess.run(closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_pipe_that_nobody_reads_ends_it_quietly() -> None:
    piped = subprocess.run(
        ["sh", "-c", '"$@" | true', "sh", *COMMAND, "kernels", "config"], stderr=subprocess.PIPE, text=True, check=False
    )
    assert piped.stderr == ""
