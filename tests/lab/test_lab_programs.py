"""Programs inside hosts: their output is kept, they are ready when said so, and they end with their lab."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import MissingProgram, NotReady, ProgramFailed
from harness.lab import Lab, Ran
from harness.lab.program import GUEST
from harness.waiting import until
from tests.processes import running

if TYPE_CHECKING:
    import socket

    from harness.lab import Host, Pair


PROJECT = Path(__file__).parents[2]


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab.host("a")


def test_a_program_runs_inside(pair: Pair) -> None:
    ran = pair.server.run("ip", "-o", "address", "show", "dev", "eth0")
    assert pair.server.ip in ran.stdout
    assert (ran.returncode, ran.argv[0]) == (0, "ip")


def test_input_and_both_outputs(host: Host) -> None:
    ran = host.run(["sh", "-c", "cat; echo problem >&2"], stdin="hello")
    assert (ran.stdout, ran.stderr) == ("hello", "problem\n")


def test_a_program_without_input_reads_nothing(host: Host) -> None:
    assert host.run("cat").stdout == ""


def test_a_failure_has_command_and_output(host: Host) -> None:
    with pytest.raises(ProgramFailed, match=r"(?s)sh -c .*: ended with status 3\nsaid\nproblem"):
        host.run("sh", "-c", "echo said; echo problem >&2; exit 3")
    assert host.run("sh", "-c", "exit 3", check=False).returncode == 3


def test_a_program_that_does_not_end(host: Host) -> None:
    with pytest.raises(NotReady, match=r"(?s)still running after 2 s\nsaid"):
        host.run("sh", "-c", "echo said; sleep 1000", timeout=2)


def test_a_missing_program_names_its_package(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingProgram, match=r"no-such-program is not installed; on Debian: apt-get install"):
        host.run("no-such-program")
    with pytest.raises(MissingProgram):
        host.start("no-such-program")
    monkeypatch.setattr("harness.lab.program.SEARCH_PATH", "/nowhere")
    with pytest.raises(MissingProgram, match=r"nginx is not installed; on Debian: apt-get install nginx-light"):
        host.run("nginx")
    # In a virtual machine nothing can be installed.
    monkeypatch.setenv(GUEST, "1")
    brings = "tc is not in this virtual machine; pytest's --tcp-guest-program tc brings it .*"
    brings += ", --tcp-guest-package iproute2 if"
    with pytest.raises(MissingProgram, match=brings):
        host.run("tc")


def test_output_in_the_background_is_kept_in_order(host: Host) -> None:
    program = host.start("sh", "-c", "echo one; echo two >&2; echo three; exit 4")
    ran = program.wait()
    assert (ran.returncode, ran.stdout) == (4, "one\ntwo\nthree\n")
    assert program.output() == ran.stdout
    assert not program.alive()


def test_ready_is_waited_for(host: Host) -> None:
    flag = host.lab.directory / "flag"
    program = host.start("sh", "-c", f"sleep 0.2; touch {flag}; sleep 1000", ready=flag.exists)
    assert (flag.exists(), program.alive()) == (True, True)


def test_a_program_that_is_never_ready(host: Host) -> None:
    with pytest.raises(NotReady, match=r"sleep ready: not met within 0.2 s"):
        host.start("sleep", "1000", ready=lambda: False, deadline=0.2)


def test_a_program_that_ends_before_it_is_ready(host: Host) -> None:
    with pytest.raises(ProgramFailed, match=r"(?s)sh -c .*: ended with status 5\nno configuration"):
        host.start("sh", "-c", "echo no configuration; exit 5", ready=lambda: False)


def test_waiting_for_a_program_that_goes_on(host: Host) -> None:
    program = host.start("sh", "-c", "echo said; sleep 1000")
    until(program.output, what="output")
    with pytest.raises(NotReady, match=r"(?s)still running after 0.1 s\nsaid"):
        program.wait(0.1)


def test_a_signal_reaches_the_program(host: Host) -> None:
    program = host.start("sh", "-c", "trap 'echo caught; exit 6' USR1; echo ready; while :; do sleep 0.01; done")
    until(program.output, what="output")
    program.signal(signal.SIGUSR1)
    assert program.wait() == Ran(program.argv, 6, "ready\ncaught\n", "")


def test_stopping_ends_the_children_too_and_by_force(host: Host) -> None:
    program = host.start("sh", "-c", "trap '' TERM; sleep 1000 & sleep 1001 & echo ready; wait; wait")
    until(program.output, what="output")
    family = [program.pid, *program.children()]
    assert len(family) == 3
    program.stop()
    assert not program.alive()
    until(lambda: not any(running(pid) for pid in family), what="the end of the children")


def test_a_child_that_heeds_no_signal_ends_with_a_program_that_does(host: Host) -> None:
    program = host.start("sh", "-c", "(trap '' TERM; echo ready; exec sleep 1000) & wait")
    until(program.output, what="output")
    (child,) = program.children()
    program.stop()
    until(lambda: not running(child), what="the end of the child")


def test_programs_end_with_their_lab(family: socket.AddressFamily) -> None:
    with Lab(family) as lab:
        program = lab.host("a").start("sh", "-c", "setsid sh -c 'echo ready; exec sleep 1000' & wait")
        until(program.output, what="output")
        output = lab.directory
        (child,) = program.children()
    assert not running(program.pid)
    assert not output.exists()
    # What made a session of its own outlives the lab, but not this process: it has a PID namespace that ends with it.
    assert Path(f"/proc/{child}/ns/pid").readlink() != Path("/proc/self/ns/pid").readlink()
    os.kill(child, signal.SIGKILL)


# What is killed is its own, and with it all that it has started.
LOSES_ITS_PROGRAMS = """
import socket
from harness.errors import ProgramFailed
from harness.lab import Lab, isolation
from harness.waiting import until
from tests.processes import running

with Lab(socket.AF_INET) as lab:
    first = isolation.world().init
    (child,) = isolation.children_of(first.pid)
    first.kill()
    # Its files are closed before its PID namespace takes no more processes (kernel/exit.c, do_exit(): exit_files(),
    # then exit_notify()), so that the end of its output would be too early.
    until(lambda: not running(child), what="the end of its child")
    for start in (lab.host("a").run, lab.host("b").start):
        try:
            start("true")
        except ProgramFailed as error:
            print(str(error).replace(str(first.pid), "PID"))
"""


def test_what_all_programs_end_with_is_named_where_it_was_killed() -> None:
    """The kernel says that there is no memory (pid_namespaces(7))."""
    ran = subprocess.run(
        [sys.executable, "-c", LOSES_ITS_PROGRAMS], cwd=PROJECT, check=False, capture_output=True, text=True
    )
    (line,) = {*ran.stdout.splitlines()}
    said = "cannot be started: somebody has killed process PID or its child, which all programs of labs end with"
    assert line.endswith(f"/true: {said}; start pytest anew")
    assert (ran.stdout.count("\n"), ran.stderr) == (2, "")


def test_programs_see_the_host_and_its_sysctls(pair: Pair) -> None:
    pair.server.sysctl["net.core.somaxconn"] = 33
    assert pair.server.run("cat", "/proc/sys/net/core/somaxconn").stdout == "33\n"
    assert pair.client.run("cat", "/proc/sys/net/core/somaxconn").stdout != "33\n"


def test_the_command_that_enters_a_host(pair: Pair) -> None:
    # From another terminal; this process is in the user namespace already, and none can be entered twice.
    command = pair.server.enter_command().replace("--user --preserve-credentials ", "")
    shown = pair.client.run("sh", "-c", f"{command} ip -o address show dev eth0").stdout
    assert pair.server.ip in shown


# A SIGINT before its handler is there kills it; the handler comes when somebody writes to the FIFO. The first SIGINT
# after that only sets a flag, and it sleeps on, as wrk does between its threads' start and end.
STUBBORN = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
print("begun", flush=True)
open(sys.argv[1]).readline()
interrupted = []
signal.signal(signal.SIGINT, lambda *_: interrupted.append(1))
while len(interrupted) < 2:
    signal.pause()
print("ended after", len(interrupted))
"""


def test_an_interrupt_comes_when_it_is_caught_and_again_until_the_program_ends(host: Host, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    program = host.start(sys.executable, "-c", STUBBORN, gate)
    until(lambda: "begun" in program.output())
    with ThreadPoolExecutor(1) as beside:
        ended = beside.submit(program.interrupt)
        until(ended.running)
        # For reading, too: a program that is dead must not hold this test up. Open until the end: what is in a FIFO is
        # lost when nobody has it open, and the program says that it has begun before it opens it.
        with os.fdopen(os.open(gate, os.O_RDWR), "w", closefd=True) as opened:
            print("go on", file=opened, flush=True)
            assert "ended after 2" in ended.result().stdout


def test_a_program_of_a_background_job_can_be_interrupted(host: Host) -> None:
    """A shell that has SIGINT ignored from its start on cannot trap it (POSIX, trap)."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        program = host.start("sh", "-c", "trap 'exit 3' INT; echo set; while :; do sleep 0.1; done")
        # dash catches SIGINT from its start, and ends itself by it as long as no trap is set.
        until(lambda: "set" in program.output(), what="the trap")
        assert program.interrupt().returncode == 3
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_does_not_end_when_it_is_interrupted_is_told(host: Host) -> None:
    program = host.start("sh", "-c", "trap : INT; echo set; while :; do sleep 0.1; done")
    until(lambda: "set" in program.output(), what="the trap")
    with pytest.raises(NotReady, match="still running"):
        program.interrupt(deadline=1.0)
