"""Tables, bars and colours: on a terminal, on one that is narrow, with NO_COLOR, in CI, and for a pipe."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import screen

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
COLOUR = re.compile(r"\x1b\[[\d;]*m")
TABLE = """
from harness.screen import Cell, GOOD, table
table(("SERIES", "MB", "FOR"), [("6.12", "7", Cell("yes", GOOD)), ("5.10", "120", "a text of many words")], right=(1,))
"""
PLAIN = ["SERIES   MB  FOR", "6.12      7  yes", "5.10    120  a text of many words"]
# Goes on until the bar has been drawn with half of it done.
BAR = """
import sys, threading
from harness import screen
looks = []
half = threading.Event()
def done():
    looks.append(1)
    if len(looks) > 3:
        half.set()
    return 5e6, 10e6
with screen.following(screen.Work("linux-image[amd64]", done, "bytes")):
    if sys.stderr.isatty() and screen.is_watched(sys.stderr):
        assert half.wait(30)
print("over")
"""


def on_a_terminal(program: str, columns: int = 100, environment: dict[str, str] | None = None) -> str:
    """What a program writes to a terminal."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    names = ("CI", "BUILD_NUMBER", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
    quiet = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=ROOT,
        env=quiet | {"TERM": "xterm"} | (environment or {}),
    ) as running:
        os.close(theirs)
        written = b"".join(_until_it_ends(ours)).decode()
    os.close(ours)
    assert running.returncode == 0, written
    return written.replace("\r\n", "\n")


def _until_it_ends(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            some = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            return
        yield some


def piped(program: str) -> str:
    """What it writes to a pipe."""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return ran.stdout + ran.stderr


def test_a_pipe_gets_lines_as_they_have_always_been() -> None:
    assert piped(TABLE).splitlines() == PLAIN


def test_a_terminal_gets_the_same_with_colours() -> None:
    written = on_a_terminal(TABLE)
    assert [line.rstrip() for line in COLOUR.sub("", written).splitlines()] == PLAIN
    assert "\x1b[32myes" in written


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"CI": "true"}, {"TERM": "dumb"}])
def test_colours_go_where_nobody_wants_them(environment: dict[str, str]) -> None:
    assert on_a_terminal(TABLE, environment=environment).splitlines() == PLAIN


def test_long_cells_are_folded_on_a_narrow_terminal() -> None:
    lines = COLOUR.sub("", on_a_terminal(TABLE, columns=28)).splitlines()
    assert max(map(len, map(str.rstrip, lines))) <= 28
    assert len(lines) > len(PLAIN)
    assert all(line.startswith(" " * 8) for line in lines[3:])


def test_a_bar_says_how_far_it_is_and_is_gone_afterwards() -> None:
    written = on_a_terminal(BAR)
    assert "linux-image[amd64]" in written
    assert "5 of 10 MB" in written
    # What is shown last is a line that is cleared.
    assert written.rstrip().endswith("over")
    assert "\x1b[2K" in written.rpartition("5 of 10 MB")[2]


def test_a_bar_has_no_colours_where_nobody_wants_them() -> None:
    written = on_a_terminal(BAR, environment={"NO_COLOR": "1"})
    assert "5 of 10 MB" in written
    assert not COLOUR.search(written)


@pytest.mark.parametrize("environment", [{"CI": "true"}, {"TERM": "dumb"}])
def test_there_is_no_bar_where_nobody_looks(environment: dict[str, str]) -> None:
    assert on_a_terminal(BAR, environment=environment) == "over\n"


def test_a_pipe_gets_no_bar() -> None:
    assert piped(BAR) == "over\n"


@pytest.mark.parametrize(
    ("unit", "done", "total", "rate", "said"),
    [
        ("bytes", 12e6, 84e6, 3e6, "12 of 84 MB, 3.0 MB a second, about 24 s left"),
        ("bytes", 0, 84e6, 0, "0 of 84 MB"),
        ("bytes", 12e6, 0, 3e6, "12 MB, 3.0 MB a second"),
        ("tests", 41, 477, 2.18, "41 of 477 tests, 2.2 a second, about 3 min left"),
        ("tests", 1, 477, 0.1, "1 of 477 tests, 6 a minute, about 79 min left"),
        ("tests", 0, 0, 0, "7 s so far"),
        ("seconds", 20, 60, 1, "20 s so far, about 40 s left"),
        ("seconds", 70, 60, 1, "70 s so far"),
    ],
)
def test_progress_in_words(unit: str, done: float, total: float, rate: float, said: str) -> None:
    assert screen.progress(unit, done, total, rate=rate, since=7.0) == said


def test_a_session_says_how_far_it_is_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "test_two.py").write_text("def test_a(): pass\ndef test_b(): pass\n")
    file = tmp_path / "far"
    assert screen.far(file) == (0, 0)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "test_two.py")]
    subprocess.run(command, cwd=ROOT, env=os.environ | {screen.FAR: str(file)}, check=True, capture_output=True)
    assert screen.far(file) == (2, 2)
