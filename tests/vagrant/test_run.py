"""What cannot be is one line and exit code 2, and nothing outlives its run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import cli
from harness.errors import BadInput
from harness.vagrant import machine_room, places, requirements, run
from harness.waiting import until
from tests.nobody import is_root

needs_libvirt = pytest.mark.skipif(
    not is_root() or any(shutil.which(one, path=requirements.SEARCH_PATH) is None for one in ("libvirtd", "virsh")),
    reason="needs root, and of Debian: apt-get install libvirt-daemon-system libvirt-clients",
)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(places.DIRECTORY, str(tmp_path / "ours"))
    return tmp_path / "ours"


def typed(*words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines that a command printed on standard error as it ended with exit code 2."""
    monkeypatch.setattr(sys, "argv", ["harness", "vagrant", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()


def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_a_missing_program_is_named_with_its_package(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_root(monkeypatch)
    monkeypatch.setattr(requirements, "SEARCH_PATH", str(tmp_path))
    (line,) = typed("run", monkeypatch=monkeypatch, capsys=capsys)
    assert line == "harness: vagrant is not installed; on Debian: apt-get install vagrant"
    assert not directory.exists()


def test_a_missing_part_of_libvirt_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_root(monkeypatch)
    monkeypatch.setattr(requirements, "TO_RUN", {})
    monkeypatch.setattr(requirements, "PARTS", {"vagrant-libvirt": "/nowhere"})
    (line,) = typed("run", monkeypatch=monkeypatch, capsys=capsys)
    assert line.endswith("apt-get install vagrant-libvirt")


def test_without_the_right_to_it_nothing_is_made(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    (line,) = typed("box", monkeypatch=monkeypatch, capsys=capsys)
    assert "run this as root, or where sudo asks no password" in line
    assert not directory.exists()


def test_a_place_that_cannot_be_used_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_root(monkeypatch)
    (tmp_path / "ours").touch()
    (line,) = typed("box", monkeypatch=monkeypatch, capsys=capsys)
    assert line.startswith(f"harness: {tmp_path / 'ours'}: cannot be used: File exists; name another place")


def test_a_directory_that_nothing_was_made_in_goes_again(directory: Path) -> None:
    with places.alone():
        assert directory.is_dir()
    assert not directory.exists()
    with places.alone():
        (directory / "box").mkdir()
    assert (directory / "box").is_dir()


def test_two_at_a_time_are_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_root(monkeypatch)
    with places.alone():
        (line,) = typed("box", monkeypatch=monkeypatch, capsys=capsys)
    assert line.startswith(f"harness: {directory}: machines are up there, or a box is being built")


@pytest.mark.parametrize("words", [("exec", "true"), ("ssh-config", "6.12")])
def test_without_machines_there_is_nothing_to_enter(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_root(monkeypatch)
    (line,) = typed(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert line == "harness: no machines are up; `harness vagrant up 6.12` brings one up"


def test_machines_side_by_side_have_a_core_and_their_memory_each() -> None:
    assert [run.at_once(cores, 64e9) for cores in (1, 2, 4)] == [1, 2, 4]
    assert [run.at_once(8, memory) for memory in (1e9, 4e9, 8e9)] == [1, 1, 2]


def test_of_what_went_well_every_tenth_part_is_shown_and_of_what_did_not_all() -> None:
    progress = run.Progress()
    printed = ["8 workers [261 items]\n"]
    for number in range(1, 101):
        printed.append(f"scenarios/test_limits.py::test_memory[ipv4-{number}] \n")
        word = "FAILED" if number == 37 else "SKIPPED" if number == 50 else "PASSED"
        printed.append(
            f"[gw{number % 8}] [{number:3d}%] {word} scenarios/test_limits.py::test_memory[ipv4-{number}] \n"
        )
    printed.append("1 failed, 98 passed, 1 skipped in 600.00s\n")
    assert [line for line in map(progress.shown, printed) if line] == [
        "8 workers [261 items]\n",
        *(f"{tenths}0 % of the scenarios\n" for tenths in (1, 2, 3)),
        "[gw5] [ 37%] FAILED scenarios/test_limits.py::test_memory[ipv4-37] \n",
        *(f"{tenths}0 % of the scenarios\n" for tenths in (4, 5, 6, 7, 8, 9, 10)),
        "1 failed, 98 passed, 1 skipped in 600.00s\n",
    ]


def test_a_kernel_that_the_box_has_not_is_refused(directory: Path) -> None:
    from harness.cli.vagrant import _built

    (directory / "box" / "boot" / "6.12").mkdir(parents=True)
    assert _built("k6.12") == _built("6.12") == "6.12"
    with pytest.raises(BadInput, match=r"the box has k6\.12"):
        _built("5.4")


BEGIN = """
import sys
from harness.vagrant import machine_room
print(machine_room.begin().init, flush=True)
sys.stdin.read()
"""


@needs_libvirt
def test_the_machines_room_ends_with_its_run_even_by_sigkill() -> None:
    with subprocess.Popen([sys.executable, "-c", BEGIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        init = int(process.stdout.readline())
        there = machine_room.current()
        assert there is not None
        assert there.init == init
        # Something that outlives whoever started it, as QEMU does.
        there.run("sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &", directory=Path("/"))
        (sleeping,) = until(lambda: [pid for pid in _below(init) if _name(pid) == "sleep"], what="a process inside")
        process.send_signal(signal.SIGKILL)
    until(lambda: _name(sleeping) != "sleep", what="the end of what was left running")
    until(lambda: not there.alive(), what="the end of their first process")
    assert machine_room.current() is None


# A machine that is busy for ever, in place of one that boots.
IN_MID_RUN = """
from types import SimpleNamespace
from harness.cli import vagrant as command
from harness.vagrant import machine_room, run
command._end_politely()
run.add_box = lambda room: None
run._settle = lambda machine, *_: machine.room.run("sleep", "1000")
kernels = [SimpleNamespace(series=one, stored=SimpleNamespace(release=one)) for one in ("5.10", "6.12")]
run.scenarios(machine_room.begin(), kernels, run.Wish(None, "", command._say))
"""


@needs_libvirt
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_run_says_so_in_one_line(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", IN_MID_RUN], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        until(lambda: machine_room.current() or process.poll() is not None, what="the machines' room", deadline=60)
        there = machine_room.current()
        assert there is not None
        until(lambda: [pid for pid in _below(there.init) if _name(pid) == "sleep"], what="a run in it", deadline=60)
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    assert said == "harness: interrupted: the machines are down; what was finished before is in vagrant/results\n"
    assert process.returncode == 128 + number
    until(lambda: not there.alive(), what="the end of their first process")


@needs_libvirt
def test_it_has_a_network_and_a_libvirt_of_its_own() -> None:
    here = machine_room.begin()
    try:
        assert Path(f"/proc/{here.init}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
        assert (
            here.run("virsh", "--connect", "qemu:///system", "list", "--all", "--name", directory=Path("/")).split()
            == []
        )
        assert here.run("sh", "-c", "ls /sys/class/net", directory=Path("/")).split() == ["lo"]
    finally:
        here.end()
    assert not places.running().exists()


def _below(init: int) -> list[int]:
    """The processes of the same PID namespace."""
    wanted = Path(f"/proc/{init}/ns/pid").readlink()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "ns" / "pid").readlink() == wanted:
                found.append(int(process.name))
        except OSError:
            continue
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
