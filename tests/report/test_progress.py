"""While it runs: a line about long waits on a terminal, and nothing of it anywhere else."""

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
from xml.etree import ElementTree as ET

import pytest

from harness import waiting
from harness.errors import NotReady
from harness.plugin.progress import Line, Wait, heard, line_of

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[2]

WAITS = """
import time
from harness.waiting import until

def test_waits():
    end = time.monotonic() + 3.3
    until(lambda: time.monotonic() > end, deadline=30, what="three seconds to pass")
"""
# On a busy machine the line comes when the third second has begun.
TELLS = "test_waits waits for three seconds to pass: ([23]) s so far, at most 2[78] s more"


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    (tmp_path / "test_waits.py").write_text(WAITS)
    return tmp_path


# Four tests, of which the last waits.
MANY = """
import pytest

@pytest.mark.parametrize("number", range(3))
def test_quick(number): pass
"""


def on_a_terminal(scenario: Path, *options: str, **environment: str) -> str:
    """What pytest writes to a terminal of 100 columns."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    quiet = {name: value for name, value in os.environ.items() if name not in ("CI", "BUILD_NUMBER")}
    command = [sys.executable, "-m", "pytest", str(scenario), "-p", "no:cacheprovider", "-p", "no:hypothesispytest",
               f"--rootdir={PROJECT}", f"-c{PROJECT / 'pyproject.toml'}", *options]  # fmt: skip
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=PROJECT, env=quiet | {"TERM": "xterm"} | environment
    ) as running:
        os.close(theirs)
        written = b"".join(_until_it_ends(ours))
    os.close(ours)
    assert running.returncode == 0, written.decode()
    return written.decode()


def _until_it_ends(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            some = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            return
        if not some:
            return
        yield some


@pytest.mark.parametrize("options", [(), ("-n", "1"), ("-v",)])
def test_a_terminal_is_told_what_is_waited_for_and_how_much_longer(scenario: Path, options: tuple[str, ...]) -> None:
    written = on_a_terminal(scenario, *options)
    found = re.search(TELLS, written)
    assert found
    # It is taken away again before pytest writes on.
    after = written[found.end() :]
    assert "\x1b[J" in after
    assert "1 passed" in after


@pytest.mark.parametrize("options", [(), ("-n", "1")])
def test_a_terminal_is_told_how_far_it_is(scenario: Path, options: tuple[str, ...]) -> None:
    (scenario / "test_many.py").write_text(MANY)
    (scenario / "test_waits.py").rename(scenario / "test_zwaits.py")
    assert re.search(rf"3 of 4 tests[^;]*; {TELLS}", on_a_terminal(scenario, *options))


def test_no_color_leaves_the_line_and_takes_its_looks(scenario: Path) -> None:
    written = on_a_terminal(scenario, NO_COLOR="1")
    assert re.search(TELLS, written)
    assert not re.search(r"\x1b\[[\d;]*m", written)


def test_junit_has_nothing_of_it(scenario: Path) -> None:
    file = scenario / "junit.xml"
    assert re.search(TELLS, on_a_terminal(scenario, "-n", "1", f"--junitxml={file}"))
    (case,) = ET.parse(file).getroot().iter("testcase")
    assert case.attrib["name"] == "test_waits"
    assert "waits for" not in file.read_text()


@pytest.mark.parametrize(("options", "environment"), [(("-q",), {}), ((), {"CI": "true"}), ((), {"TERM": "dumb"})])
def test_it_is_quiet_where_that_is_wished(
    scenario: Path, options: tuple[str, ...], environment: dict[str, str]
) -> None:
    written = on_a_terminal(scenario, *options, **environment)
    assert "1 passed" in written
    assert "waits for" not in written


def test_a_pipe_gets_nothing_of_it(scenario: Path) -> None:
    command = [sys.executable, "-m", "pytest", str(scenario), "-p", "no:cacheprovider"]
    ran = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert "waits for" not in ran.stdout + ran.stderr
    assert "\x1b" not in ran.stdout


def test_the_line_is_below_and_leaves_the_cursor_where_it_was() -> None:
    written: list[str] = []
    line = Line(written.append, lambda: 7, lambda: 20)
    line.show("a text that is longer than the line")
    line.clear()
    line.clear()
    assert written == ["\n\r\x1b[2K\x1b[2ma text that is lon…\x1b[0m\x1b[1A\r\x1b[7C", "\x1b[J"]


def test_of_several_waits_the_longest_is_told() -> None:
    waits = [Wait("test_a", "this", 3.0, 5.0, 0.0), Wait("test_b", "that", 10.0, 50.0, 0.0)]
    assert line_of(waits) == "test_b waits for that: 10 s so far, at most 50 s more (and 1 more)"


def test_a_wait_is_told_of_once_it_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    heard: list[tuple[str, float, float]] = []
    monkeypatch.setattr(waiting, "listener", lambda *what: heard.append(what))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    wait = waiting._Wait("a place", 10.0)  # began at 0
    wait.goes_on()
    wait.goes_on()
    wait.goes_on()
    wait.is_over()
    assert heard == [("a place", 2.0, 8.0), ("a place", 3.0, 7.0), ("a place", 4.0, -1.0)]


def test_nobody_is_told_of_a_short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[str, float, float]] = []
    monkeypatch.setattr(waiting, "listener", lambda *what: heard.append(what))
    assert waiting.until(lambda: 7) == 7
    with pytest.raises(NotReady):
        waiting.until(lambda: 0, deadline=0.05)
    assert heard == []


@pytest.mark.parametrize(
    "said",
    [
        None,
        b"{}",
        {"since": "abc"},
        ("t", "w", "abc", 1.0),
        ("t", "w", 1.0),
        ("t", "w", float("nan"), 1.0),
        ("t", "w", 1.0, float("inf")),
        (1, "w", 1.0, 1.0),
    ],
)
def test_what_is_no_wait_ends_no_run(said: object) -> None:
    assert heard(said) is None


def test_nobody_s_escapes_reach_the_terminal() -> None:
    wait = heard(("t\x1b]0;x\x07", "w\x9b2J\u202e" + "x" * 10_000, 1, 2.0))
    assert wait is not None
    assert line_of([wait]).isprintable()
    assert len(wait.what) == 500


HAS_NO_FILE = """
import os
from contextlib import suppress
from pathlib import Path

def named_sockets(pid):
    # Of this process, and not of another program of the machine.
    held = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            held.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    rows = [line.split() for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()]
    return [row[7] for row in rows if len(row) > 7 and f"socket:[{row[6]}]" in held]

def test_nobody_else_can_tell():
    assert named_sockets(os.getpid()) == named_sockets(os.getppid()) == []
    for folder in (Path("/tmp"), Path(os.environ.get("TMPDIR", "/tmp"))):
        assert not list(folder.glob("tcp-harness-progress-*"))
"""


def test_it_has_no_place_where_others_could_write(tmp_path: Path) -> None:
    """Any user of the machine could write to root's terminal, and end root's run."""
    (tmp_path / "test_nobody.py").write_text(HAS_NO_FILE)
    assert "1 passed" in on_a_terminal(tmp_path, "-n", "1")
