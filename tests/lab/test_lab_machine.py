"""Knobs of the whole machine: refused on a shared kernel, set and put back in a kernel of our own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import GlobalSysctl, UnknownSysctl, Unsupported
from harness.lab import Lab, machine
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ORPHANS = "net.ipv4.tcp_max_orphans"

pytest_plugins = ["pytester"]


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Say that the kernel is ours; what is written below is the value that is there anyway."""
    monkeypatch.setenv(machine.OWN_KERNEL, "1")
    yield
    machine.turns._lock(8)  # LOCK_UN: whatever a failed test left


@pytest.fixture
def reachable(lab: Lab) -> None:
    try:
        lab.machine_sysctl[ORPHANS]
    except GlobalSysctl as error:
        pytest.skip(str(error))


def test_a_shared_kernel_refuses(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(machine.OWN_KERNEL, raising=False)
    message = r"fs.file-max belongs to the whole machine .* in a kernel of its own \(--own-kernel\)"
    with pytest.raises(GlobalSysctl, match=message):
        lab.machine_sysctl["fs.file-max"] = 1000
    assert lab.machine_sysctl.changed == {}


def test_a_lab_closes_where_the_machine_is_out_of_reach(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: object) -> None:
        raise GlobalSysctl("setns: Operation not permitted")

    with Lab(family) as lab:
        lab.host("a")
        monkeypatch.setattr(machine._InMachine, "__enter__", refused)


def test_a_host_has_what_the_machine_has(lab: Lab) -> None:
    assert ORPHANS in lab.host("a").sysctl


@pytest.mark.usefixtures("ours", "reachable")
def test_a_host_sets_it_for_the_machine(family: int) -> None:
    with Lab(family) as lab:
        host = lab.host("a")
        before = host.sysctl[ORPHANS]
        assert before == lab.machine_sysctl[ORPHANS]
        host.sysctl[ORPHANS] = before
        assert host.sysctl.changed == lab.machine_sysctl.changed == {ORPHANS: (before, before)}
    assert lab.machine_sysctl.changed == {}


@pytest.mark.usefixtures("ours", "reachable")
def test_hosts_cannot_differ_in_what_the_machine_has_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = lab.hosts("one", "other")
    there = one.sysctl[ORPHANS]
    lab.set_each(ORPHANS, {one: there, other: there})
    given = [there]
    monkeypatch.setattr(machine, "_write", lambda _name, value: given.append(value))
    monkeypatch.setattr(machine, "_read", lambda _name: given[-1])
    with pytest.raises(
        Unsupported, match=rf"{ORPHANS} is the whole machine's on kernel .*: hosts of a lab cannot differ"
    ):
        lab.set_each(ORPHANS, {one: 7, other: 8})
    lab.set_all(ORPHANS, 9)
    assert given == [there, "7", "8", "9", "9"]


@pytest.mark.usefixtures("ours", "reachable")
def test_outside_net_only_the_machine_has_it(lab: Lab) -> None:
    assert "fs.file-max" in lab.machine_sysctl
    assert "fs.file-max" not in lab.host("a").sysctl
    with pytest.raises(UnknownSysctl, match=r"fs.file-min: kernel .* has no such sysctl"):
        lab.machine_sysctl["fs.file-min"]


WAITS = """
import fcntl, sys
from harness.lab import Lab, machine
from harness.waiting import until
with Lab() as lab:
    print("joined", flush=True)
    sys.stdin.readline()
    machine.turns.alone()
    print("alone", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.usefixtures("ours", "reachable")
def test_who_wants_the_machine_waits_until_it_is_alone(lab: Lab) -> None:
    """Two processes have a lab; one wants to be alone, and is when the other's lab has closed."""
    with machine._InMachine():
        other = subprocess.Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdin is not None
        assert other.stdout is not None
        os.set_blocking(other.stdout.fileno(), False)
        assert until(other.stdout.readline, what="the other's lab") == b"joined\n"
        other.stdin.write(b"\n")
        other.stdin.flush()
        blocked = re.compile(rf"-> FLOCK +ADVISORY +WRITE {other.pid} ")
        until(lambda: blocked.search(Path("/proc/locks").read_text()), what="the other to wait for the machine")
        assert other.stdout.readline() == b""
        lab.close()
        assert until(other.stdout.readline, what="the other to be alone") == b"alone\n"
        other.communicate(b"\n", timeout=60)
        assert other.returncode == 0
    finally:
        other.kill()
        other.communicate()


def test_a_machine_wide_test_is_skipped_on_a_shared_kernel(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.machine_wide('fs.file-max')\ndef test_a(lab): pass\n")
    result = session("-rs")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(
        ["*needs a kernel of its own (--tcp-own-kernel): fs.file-max would be set for the whole*"]
    )
