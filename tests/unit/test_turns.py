"""Experiments that need the machine for themselves: one at a time, of whatever clone, and none waits for ever."""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import NotReady
from harness.instruments import turns

if TYPE_CHECKING:
    from collections.abc import Iterator

# Another copy of the module, in another place.
HOLDS = """
import runpy, sys
from pathlib import Path
alone = runpy.run_path(sys.argv[1])["alone"]
alone.__wrapped__.__globals__["MACHINE"] = Path(sys.argv[2])
with alone():
    print(flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for the machine here: on the real one somebody may measure."""
    (tmp_path / "machine").touch()
    monkeypatch.setattr(turns, "MACHINE", tmp_path / "machine")
    monkeypatch.setattr(turns, "LONGEST", 60.0)
    return tmp_path / "machine"


@pytest.fixture
def elsewhere(machine: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of another clone that has the machine for itself, until its input ends."""
    copy = tmp_path / "turns.py"
    copy.write_text(Path(turns.__file__).read_text())
    command = [sys.executable, "-c", HOLDS, str(copy), str(machine)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield process


def test_one_at_a_time_on_the_whole_machine(
    elsewhere: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(turns, "LONGEST", 0.1)
        with pytest.raises(NotReady, match="the turn to have the machine alone"), turns.alone():
            pass
    elsewhere.communicate()
    with turns.alone():
        pass


def test_one_that_is_killed_gives_it_back(elsewhere: subprocess.Popen[bytes]) -> None:
    elsewhere.kill()
    with turns.alone():
        pass


def test_everybody_can_lock_the_machine() -> None:
    with turns.MACHINE.open() as file, contextlib.suppress(BlockingIOError):  # somebody has it
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
