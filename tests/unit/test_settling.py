"""compare, check and bisect run scenarios by pytests of their own, which end with them, as do their folders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.waiting import until
from tests.claim_file import claim_file

PROJECT = Path(__file__).parents[2]
TEST = """
import os, pathlib, time

def test_waits():
    pathlib.Path(os.environ["STARTED"], str(os.getpid())).touch()
    time.sleep(1000)
"""
COMMANDS = {
    "compare": ("compare", "running", "6.12-evidence"),
    "check": ("check", "running", "--evidence", "kept"),
}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_outlives_it(command: str, number: signal.Signals, tmp_path: Path) -> None:
    """`harness diff` killed with -9 left two pytests and two QEMUs of 3 GB, and its folder."""
    scenarios, started, temporary = (tmp_path / name for name in ("scenarios", "started", "tmp"))
    for directory in (scenarios / "claims", started, temporary, tmp_path / "6.12-evidence"):
        directory.mkdir(parents=True)
    (scenarios / "claims" / "queue.toml").write_text(claim_file())
    (scenarios / "test_waits.py").write_text(TEST)
    (scenarios / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "6.12-evidence" / "x.json").write_text("{}")
    environment = os.environ | {"TMPDIR": str(temporary), "STARTED": str(started), "PYTHONPATH": str(PROJECT)}
    environment.pop("PYTEST_DEBUG_TEMPROOT", None)
    main = "from harness.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", main, *COMMANDS[command], "--scenarios", str(scenarios)],
        cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as it:  # fmt: skip
        until(lambda: list(started.iterdir()) or it.poll() is not None, what="the test", deadline=300)
        assert it.poll() is None, it.stderr and it.stderr.read().decode()
        (worker,) = started.iterdir()
        below = descendants(it.pid)
        assert int(worker.name) in below
        it.send_signal(number)
    until(lambda: not any(map(alive, below)), what="all that it started to end", deadline=120)
    until(lambda: not list(temporary.glob("harness-*")), what="its folders gone", deadline=120)


def descendants(pid: int) -> set[int]:
    """The processes below one, but for those that only wait for the end of it to clean up."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,comm="], check=True, capture_output=True, text=True).stdout
    children: dict[int, list[int]] = {}
    for line in listed.splitlines():
        number, parent, name = line.split(None, 2)
        if name not in ("sh", "cat", "ps"):
            children.setdefault(int(parent), []).append(int(number))
    found: set[int] = set()
    todo = [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found.update(below)
        todo += below
    return found


def alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
