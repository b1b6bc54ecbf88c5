"""Sysctls of hosts are looked up in an instance of procfs for every so many hosts, which nobody else sees."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.lab import isolation
from harness.lab.host import QUIET
from harness.lab.procfs import HOSTS_EACH, Procfs
from tests import nobody

if TYPE_CHECKING:
    from harness.lab import Lab

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def instances(labs_work_here: None) -> None:
    """Skip where the kernel gives nobody an instance of procfs, or (before 5.8) gives the machine's once more."""
    try:
        given = isolation.new_procfs()
    except OSError as error:
        pytest.skip(str(error))
    try:
        if os.fstat(given).st_dev == Path("/proc").stat().st_dev:
            pytest.skip("before Linux 5.8 a PID namespace has one instance of procfs")
    finally:
        os.close(given)


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The instance of procfs, as a device number, in which each host's settings of IPv4 are looked up."""
    devices: list[int] = []
    opened = os.open

    def note(path: Any, *arguments: Any, dir_fd: int | None = None, **words: Any) -> int:
        if str(path).endswith("sys/net/ipv4"):
            there = "/proc" if dir_fd is None else dir_fd
            devices.append(os.stat(there).st_dev)  # noqa: PTH116 - a descriptor
        return opened(path, *arguments, dir_fd=dir_fd, **words)

    monkeypatch.setattr(os, "open", note)
    return devices


def settings(lab: Lab) -> set[tuple[str, ...]]:
    """What hosts have for the settings that keep them quiet: one set of values, where all are quiet."""
    return {
        tuple(host.sysctl[f"{folder}/{name}".removeprefix("sys/")] for folder in QUIET for name in QUIET[folder])
        for host in lab.all_hosts.values()
    }


def test_no_more_hosts_are_looked_up_in_one_instance_than_it_is_for(
    lab: Lab, instances: None, looked_up: list[int]
) -> None:
    lab.hosts(*(f"host{i}" for i in range(2 * HOSTS_EACH + 1)))
    runs = [(device, len(list(run))) for device, run in itertools.groupby(looked_up)]
    assert [length for _, length in runs] == [HOSTS_EACH, HOSTS_EACH, 1]
    assert runs[0][0] == Path("/proc").stat().st_dev
    assert len(settings(lab)) == 1


def test_a_host_finds_its_own_settings_in_any_instance(lab: Lab, instances: None) -> None:
    a, b = lab.hosts("a", "b")
    b.sysctl["net.ipv4.tcp_syncookies"] = 2
    procfs = isolation.new_procfs()
    seen = []
    for host in (a, b, a):
        with host:
            knob = os.open("sys/net/ipv4/tcp_syncookies", os.O_RDONLY, dir_fd=procfs)
        seen.append(os.read(knob, 9))
        os.close(knob)
    os.close(procfs)
    assert seen == [b"1\n", b"2\n", b"1\n"]


def test_an_instance_is_mounted_nowhere_and_ends_with_its_descriptor(instances: None) -> None:
    mounts, open_before = Path("/proc/self/mountinfo").read_text(), len(list(Path("/proc/self/fd").iterdir()))
    procfs = Procfs(hosts_each=1)
    assert len({os.fstat(procfs.folder()).st_dev for _ in range(2)}) == 2
    assert Path("/proc/self/mountinfo").read_text() == mounts
    procfs.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


def test_where_no_instance_is_given_hosts_are_looked_up_in_the_machine_s(
    lab: Lab, looked_up: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> int:
        raise PermissionError("as in the user namespace of an ordinary user")

    monkeypatch.setattr(isolation, "new_procfs", refuse)
    lab.procfs = Procfs(hosts_each=2)
    lab.hosts(*(f"host{i}" for i in range(5)))
    assert looked_up == [Path("/proc").stat().st_dev] * 5
    assert len(settings(lab)) == 1


MANY = f"""
def test_quiet(lab):
    hosts = lab.hosts(*(f"host{{i}}" for i in range({HOSTS_EACH + 2})))
    assert {{host.sysctl["net.ipv6.conf.default.addr_gen_mode"] for host in hosts}} == {{"1"}}
"""


def test_an_ordinary_user_has_as_many_hosts() -> None:
    with nobody.home_of_nobody() as home:
        nobody.skip_without_labs_of_nobody()
        (home / "test_many.py").write_text(MANY)
        ran = subprocess.run(
            [*nobody.NOBODY, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "-k", "ipv4"], cwd=home,
            check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": f"{home}:{PROJECT}", "HOME": str(home), "TMPDIR": "/var/tmp"},
        )  # fmt: skip
    assert "1 passed" in ran.stdout, ran.stdout + ran.stderr
