"""A process is ended by what holds it, never by a number that somebody has written down."""

from __future__ import annotations

import signal
import subprocess

import pytest

from harness.orphans import Process
from tests.apart import apart


@pytest.mark.parametrize("number", [1, 0, -1, -2, -(2**31)])
def test_numbers_that_mean_many_are_no_process(number: int) -> None:
    """Nothing is sent to anything here: what is tried is whether there would be a process to send to."""
    with pytest.raises(ProcessLookupError):
        Process(number)


def test_one_that_has_ended_is_dead_and_no_signal_reaches_another() -> None:
    with subprocess.Popen(["sleep", "1000"]) as child:
        process = Process(child.pid)
        assert process.alive()
        process.signal(signal.SIGKILL)
        child.wait()
    assert not process.alive()
    process.signal(signal.SIGKILL)
    with pytest.raises(ProcessLookupError):
        Process(child.pid)


# In a PID namespace of its own: on the day on which this fails, it ends every process that it can see.
ROOM = """
import json, os, pathlib, subprocess, sys, time
from harness.vagrant import machine_room, places
running = places.running()
running.mkdir(parents=True)
bystander = subprocess.Popen(["sleep", "1000"])
dead = subprocess.Popen(["true"])
dead.wait()
for written in (-1, 0, 1, dead.pid, bystander.pid):
    (running / "room.json").write_text(json.dumps({"init": written, "begun": ""}))
    room = machine_room.current()
    assert room is None, written
first = subprocess.Popen(
    [sys.executable, "-c", "import pathlib, sys, time; from harness.vagrant import machine_room as room;"
     "room._listen(pathlib.Path(sys.argv[1])); print(flush=True); time.sleep(1000)", str(running)],
    stdout=subprocess.PIPE,
)
first.stdout.readline()
room = machine_room.current()
assert (room.init, room.alive()) == (first.pid, True)
room.end()
assert first.wait() == -9
assert machine_room.current() is None
assert bystander.poll() is None
bystander.kill()
print("the bystander lives")
"""


def test_the_room_is_who_listens_at_its_socket(tmp_path: object) -> None:
    ended = apart(f"import os\nos.environ['TCP_HARNESS_VAGRANT'] = {str(tmp_path)!r} + '/x' * 60\n{ROOM}")
    assert (ended.stdout, ended.stderr) == ("the bystander lives\n", "")
