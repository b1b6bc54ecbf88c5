"""How a machine runs: what is asked for, what is refused, what QEMU is told, and what tells states apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from harness.cli.machine import Machine, machine_options
from harness.errors import BadInput
from harness.kernels import machine
from harness.kernels.mode import Mode, mebibytes, mode
from harness.kernels.store import Stored

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A QEMU that is never started, and no KVM."""
    monkeypatch.setattr(machine, "qemu", lambda: machine.QEMU)
    monkeypatch.setattr("os.access", lambda *_: False)


def told(asked: Mode, directory: Path) -> tuple[list[str], list[str]]:
    """QEMU's command line, and in it the kernel's."""
    words = machine.arguments(Stored("6.12", "6.12", directory / "bzImage", {}), asked)
    return words, words[words.index("-append") + 1].split()


def test_nothing_asked_is_one_cpu_of_simulated_time() -> None:
    assert mode() == Mode() == Mode(simulated=True, memory=3072, append=())
    assert str(mode()) == "simulated time, 3072 MB"


@pytest.mark.usefixtures("qemu")
def test_qemu_is_told_what_was_asked(tmp_path: Path) -> None:
    words, kernel = told(
        mode(real_time=True, cpus="4", memory="1G", append=["nokaslr", 'dyndbg="file a +p" ']), tmp_path
    )
    assert words[words.index("-smp") + 1] == "4"
    assert words[words.index("-m") + 1] == "1024"
    # Last, so that they may say otherwise than we do.
    assert kernel[-4:] == ["nokaslr", 'dyndbg="file', "a", '+p"']
    words, kernel = told(mode(cpus="1"), tmp_path)
    assert words[words.index("-smp") + 1] == "1"
    assert kernel[-2:] == ["clearcpuid=141", "norandmaps"]


@pytest.mark.usefixtures("qemu")
def test_machines_that_differ_have_states_of_their_own(tmp_path: Path) -> None:
    kernel = Stored("6.12", "6.12", tmp_path / "bzImage", {})
    asked = [
        mode(),
        mode(memory="2G"),
        mode(append=["a"]),
        mode(append=["b"]),
        mode(real_time=True),
        mode(real_time=True, cpus="4"),
        mode(real_time=True, memory="2G"),
        mode(real_time=True, append=["a"]),
    ]
    names = [machine.name_of(each, kernel) for each in asked]
    assert len(set(names)) == len(asked)
    # What is asked for that would be so anyway is no other machine.
    assert machine.name_of(mode(cpus="1", memory="3072"), kernel) == names[0]
    assert machine.name_of(mode(append=["a "]), kernel) == names[2]


@pytest.mark.parametrize("text", ["2048", "2048M", "2048mb", "2G", "2g", " 2gb "])
def test_memory_is_written_in_these_ways(text: str) -> None:
    assert mebibytes(text) == 2048


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"cpus": "0", "real_time": True}, r"--guest-cpus 0: a machine has 1 to 255"),
        ({"cpus": "256", "real_time": True}, r"--guest-cpus 256: a machine has 1 to 255"),
        ({"cpus": "two", "real_time": True}, r"--guest-cpus two: a machine has 1 to 255"),
        ({"cpus": "2"}, r"--guest-cpus 2: simulated time counts the instructions of one CPU; for more, --real-time"),
        ({"memory": "2T"}, r"--guest-memory 2T: write it in MB or GB: 2048, 2048M, 2G"),
        ({"memory": "-1"}, r"--guest-memory -1: write it in MB"),
        ({"memory": "255"}, r"--guest-memory 255: a machine can have 256 to \d+ MB here"),
        ({"memory": "999999G"}, r"--guest-memory 999999G: a machine can have 256 to \d+ MB here"),
        ({"append": ["a\nb"]}, r"--guest-append 'a\\nb': .* printable ASCII alone"),
        ({"append": ["ü"]}, r"--guest-append 'ü': .* printable ASCII alone"),
        ({"append": ['a="b']}, r'--guest-append a="b: its quotation marks are not in pairs'),
        ({"append": ["clearcpuid=1"]}, r"--guest-append clearcpuid=1: clearcpuid is what machines .* depend on"),
        ({"append": ["a" * 1800]}, r"--guest-append: a kernel reads no more than 1792 characters"),
    ],
)
def test_what_no_machine_can_be_is_refused_in_one_line(asked: dict[str, object], why: str) -> None:
    with pytest.raises(BadInput, match=why) as caught:
        mode(**asked)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "typed",
    [
        [],
        ["--real-time", "--guest-cpus", "4"],
        ["--guest-memory", "1G", "--guest-append", "nokaslr", "--guest-append", 'dyndbg="file a +p"'],
        # As it would be anyway: a setting of the project may say otherwise.
        ["--guest-memory", "3G", "--guest-cpus", "1"],
    ],
    ids=" ".join,
)
def test_a_pytest_that_a_command_starts_is_told_the_same(typed: list[str], pytestconfig: pytest.Config) -> None:
    machines: list[Machine] = []

    @click.command()
    @machine_options
    def command(machine: Machine) -> None:
        machines.append(machine)

    assert CliRunner().invoke(command, typed).exit_code == 0
    ((asked, _),) = machines
    assert len(machines[0].words) == sum(word.startswith("--") for word in typed)
    told = pytestconfig._parser.parse_known_args(machines[0].words)
    again = mode(
        real_time=told.tcp_real_time,
        cpus=told.tcp_guest_cpus,
        memory=told.tcp_guest_memory,
        append=told.tcp_guest_append,
    )
    assert again == asked
