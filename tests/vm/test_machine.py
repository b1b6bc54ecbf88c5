"""A machine that is dead and one that only says nothing, with kernels of some bytes; and whether KVM counts."""

from __future__ import annotations

import gc
import os
import re
import resource
import shutil
import signal
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.kernels import acceleration, image, places, warm
from harness.kernels import machine as machines
from harness.kernels.machine import QEMU, MachineDied, VirtualMachine
from harness.kernels.mode import Mode
from harness.kernels.pulse import Pulse
from harness.kernels.store import Stored
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

# x86 in real mode.
HALTED_FOR_GOOD = bytes.fromhex("fa f4 eb fd")  # cli; hlt; again
SPINS_WITHOUT_INTERRUPTS = bytes.fromhex("fa eb fe")  # cli; jump here
SPINS = bytes.fromhex("fb eb fe")  # sti; jump here
IDLES = bytes.fromhex("fb f4 eb fd")  # sti; hlt; again

pytestmark = pytest.mark.skipif(
    not shutil.which(QEMU), reason=f"{QEMU} is not installed; on Debian: apt-get install qemu-system-x86"
)


def kernel_of(code: bytes, directory: Path, banner: bytes = b"") -> Stored:
    """A kernel image for that code: Documentation/arch/x86/boot.rst, the real-mode part alone."""
    setup = bytearray(0x400)
    setup[0x1F1] = 1  # one sector after this
    setup[0x200:0x202] = bytes([0xEB, 0x280 - 0x202])  # over the header
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<HxxxxxxxxxB", setup, 0x206, 0x0203, 1)  # version; loaded high
    struct.pack_into("<I", setup, 0x22C, 0x37FFFFFF)  # where an initrd may end
    setup[0x280 : 0x280 + len(code)] = code
    struct.pack_into("<H", setup, 0x20E, 0x300 - 0x200)
    setup[0x300 : 0x300 + len(banner)] = banner
    file = directory / "bzImage"
    file.write_bytes(bytes(setup) + bytes(0x400))
    return Stored("tiny", "0", file, {})


@pytest.fixture
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[VirtualMachine]:
    kernel = kernel_of(request.param, tmp_path)
    with VirtualMachine(kernel, Mode(memory=64), initrd=kernel.image) as made:
        yield made


@pytest.mark.parametrize("machine", [HALTED_FOR_GOOD, SPINS_WITHOUT_INTERRUPTS], indirect=True)
def test_a_cpu_that_takes_no_interrupts_is_noticed(machine: VirtualMachine) -> None:
    assert until(Pulse(machine).wrong, deadline=120) == "a CPU does not take interrupts any more"


@pytest.mark.parametrize("machine", [SPINS, IDLES], indirect=True)
def test_silence_alone_means_nothing(machine: VirtualMachine) -> None:
    """Twice as many looks as a dead machine survives."""
    pulse = Pulse(machine)
    looks = 0

    def looked() -> bool:
        nonlocal looks
        before = pulse._looked
        assert pulse.wrong() is None
        looks += pulse._looked != before
        return looks > 2 * pulse.times

    until(looked, deadline=300)


@pytest.mark.parametrize("machine", [IDLES], indirect=True)
def test_a_qemu_that_was_stopped_is_noticed_and_ends_all_the_same(machine: VirtualMachine) -> None:
    os.kill(machine.process.pid, signal.SIGSTOP)
    assert until(Pulse(machine).wrong, deadline=120) == "QEMU has been stopped by a signal"
    machine.end()
    assert machine.process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("machine", [IDLES], indirect=True)
def test_a_machine_that_pauses_is_noticed(machine: VirtualMachine) -> None:
    async def stop(control: object) -> None:
        await control.execute("stop")  # type: ignore[attr-defined]

    machine.asked(stop, 30)
    assert until(Pulse(machine).wrong, deadline=120) == "QEMU says that it is paused"


@pytest.mark.parametrize("machine", [IDLES], indirect=True)
def test_a_state_that_is_none_is_reported(machine: VirtualMachine, tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"no state")
    with VirtualMachine(
        machine.kernel, machine.mode, initrd=machine.kernel.image, state=tmp_path / "state"
    ) as restored:
        with pytest.raises(
            MachineDied, match=r"(?i)kernel tiny died: (.*\n)*.*not a migration stream(.*\n)*.*is removed"
        ):
            restored.resume()
        assert str(restored.died("so")).endswith("(nothing on its console since it was restored)")
    # Of one that has booted, nobody has restored anything.
    assert str(machine.died("so")).endswith("(nothing on its console)")
    assert not (tmp_path / "state").exists()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A state of a machine that idles, of 64 MB, some of which it has used."""
    kernel = kernel_of(IDLES, tmp_path)
    with VirtualMachine(kernel, Mode(memory=64), initrd=kernel.image) as machine:
        machine.resume()
        assert machine._memory is not None
        memory = machine._memory.fileno()
        until(lambda: os.fstat(memory).st_blocks, deadline=60)
        machine.save(tmp_path / "state")
    return tmp_path / "state"


def restored(state: Path) -> VirtualMachine:
    kernel = kernel_of(IDLES, state.parent)
    return VirtualMachine(kernel, Mode(memory=64), initrd=kernel.image, state=state)


@pytest.mark.parametrize("part", [0.25, 0.5, 0.75])
def test_a_state_that_is_cut_off_is_removed_and_nothing_else_is_said(
    saved: Path, part: float, caplog: pytest.LogCaptureFixture
) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(part * len(content))])
    with restored(saved) as machine, pytest.raises(MachineDied, match=r"load of migration failed(.*\n)*.*is removed"):
        machine.resume()
    gc.collect()
    assert [record.getMessage() for record in caplog.records] == []
    assert not saved.exists()


def test_a_state_is_as_it_was_when_its_machine_has_run(saved: Path) -> None:
    """The machine's memory is mapped from it; never used memory takes no room in it. It runs until it has written."""
    before = saved.read_bytes()
    assert saved.stat().st_size > 64 << 20
    assert saved.stat().st_blocks * 512 < 32 << 20
    with restored(saved) as machine:
        machine.resume()
        mapped = rf" {re.escape(str(saved))}\n(?:\w+: .*\n)*?Private_Dirty: +[1-9]"
        smaps = Path(f"/proc/{machine.process.pid}/smaps")
        until(lambda: re.search(mapped, smaps.read_text()), deadline=60, what="the machine to write")
    assert saved.read_bytes() == before


def test_a_copy_of_a_state_has_its_holes_even_where_they_were_written_out(tmp_path: Path) -> None:
    """A program that copies a cache may fill them with zeros: 3 GB of a machine's memory would be in use at once."""
    content = b"a" + bytes(8 << 20) + b"b" * 5000 + bytes(8 << 20) + b"c"
    for name, part in (("whole", len(content)), ("cut off", 12 << 20)):
        (tmp_path / name).write_bytes(content[:part])
        with (tmp_path / name).open("rb") as source, (tmp_path / "copy").open("w+b") as target:
            machines.copy_data(source.fileno(), target.fileno(), len(content) - 1)
            target.truncate(len(content) - 1)
            assert target.read() == content[:part][:-1].ljust(len(content) - 1, b"\0")
            assert os.fstat(target.fileno()).st_blocks * 512 < 1 << 20


def test_a_state_can_be_made_from_a_state(saved: Path) -> None:
    kernel = kernel_of(IDLES, saved.parent)
    again = saved.with_name("again")
    with VirtualMachine(kernel, Mode(memory=64), initrd=kernel.image, state=saved, is_to_be_saved=True) as machine:
        machine.resume()
        machine.save(again)
    with restored(again) as machine:
        machine.resume()
    for state in (saved, again):
        assert any(state.read_bytes()[: 64 << 20]), state


def test_a_state_that_is_somebody_elses_is_read_all_the_same(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU opens what it maps for writing."""
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != str(saved) and allowed(path, mode))
    with restored(saved) as machine:
        machine.resume()
        assert str(saved) not in Path(f"/proc/{machine.process.pid}/maps").read_text()


def test_a_state_stays_that_qemu_had_no_memory_for(saved: Path) -> None:
    """It was taken for damaged: the kernel had to boot again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    # QEMU's own, and 512 MB of translated code; 700 and 800 MB are too little too.
    resource.setrlimit(resource.RLIMIT_AS, (300 << 20, hard))
    try:
        machine = restored(saved)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    with machine, pytest.raises(MachineDied, match="Cannot allocate memory") as died:
        machine.resume()
    assert "removed" not in str(died.value)
    with restored(saved) as machine:
        machine.resume()


def test_a_state_stays_whose_qemu_was_killed(saved: Path) -> None:
    with restored(saved) as machine:
        machine.process.kill()
        with pytest.raises(MachineDied, match="kernel tiny died: QEMU does not answer"):
            machine.resume()
    assert saved.exists()


@pytest.mark.parametrize("machine", [IDLES], indirect=True)
def test_a_qemu_that_ends_after_its_greeting_is_no_error_of_ours(machine: VirtualMachine) -> None:
    """qemu.qmp asserts then that the connection stands."""
    machine.process.kill()
    machine.monitor.close()
    machine.monitor, greets = socket.socketpair()
    greets.sendall(b'{"QMP": {"version": {}, "capabilities": []}}\r\n{"return": {}}\r\n')
    greets.shutdown(socket.SHUT_WR)
    with greets, pytest.raises(MachineDied, match="kernel tiny died: QEMU does not answer"):
        machine.pause()


def test_first_files_that_are_cut_off_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel panicked at each run, and was blamed for it."""
    monkeypatch.setenv(places.CACHE, str(tmp_path / "cache"))
    kernel = kernel_of(IDLES, tmp_path)
    tree = image.Tree()
    tree.text("init", "#!/bin/sh\n")
    system = image.build(tree, places.images())
    with warm.first_files(kernel, system, system.stem) as (file, key):
        content = file.read_bytes()
    for left in (0, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:left])
        with warm.first_files(kernel, system, system.stem) as again:
            assert again == (file, key)
            assert file.read_bytes() == content


def test_a_console_that_is_kept_is_named_and_begins_with_the_boot(tmp_path: Path) -> None:
    """What was said before this machine is in the file, and not in what the error shows of it."""
    kept = tmp_path / "console.txt"
    kept.write_text("Linux version 6\n")
    kernel = kernel_of(IDLES, tmp_path)
    with VirtualMachine(kernel, Mode(memory=256), initrd=kernel.image, console=kept) as machine:
        with kept.open("a") as said:  # as QEMU does
            said.write("Kernel panic - not syncing: tired\n")
        died = str(machine.died("it ended"))
    head = f"the machine with kernel tiny died: it ended (Kernel panic - not syncing: tired); its console: {kept}"
    assert died.splitlines()[0] == head
    assert "Linux version" not in died
    assert kept.read_text() == "Linux version 6\nKernel panic - not syncing: tired\n"


def test_kvm_counts_when_a_kernel_has_booted_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = shutil.which(QEMU)
    assert qemu is not None
    idle = kernel_of(IDLES, tmp_path).image
    # QEMU starts, and the guest runs, but never comes to where a kernel looks for its files.
    assert not acceleration.boots(qemu, idle, acceleration.TCG, patience=2)
    # A QEMU that does not even start.
    assert not acceleration.boots(qemu, idle, ("-accel", "none"))
    tries = []

    def fails(*words: object) -> bool:
        tries.append(words)
        return False

    monkeypatch.setenv(places.CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(acceleration, "boots", fails)
    monkeypatch.setattr(os, "access", lambda *_: True)
    assert [acceleration.arguments(qemu, idle) for _ in range(2)] == [acceleration.TCG] * 2
    assert len(tries) == 1  # until the machine boots again
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert acceleration.arguments(qemu, idle) == acceleration.TCG


def test_a_kernel_boots_as_far_as_that(kernels: list[Stored]) -> None:
    qemu = shutil.which(QEMU)
    assert qemu is not None
    assert acceleration.boots(qemu, kernels[0].image, acceleration.TCG, patience=300)
    verdict = acceleration.arguments(qemu, kernels[0].image)
    assert verdict in (acceleration.KVM, acceleration.TCG)
    assert os.access("/dev/kvm", os.R_OK | os.W_OK) or verdict == acceleration.TCG
