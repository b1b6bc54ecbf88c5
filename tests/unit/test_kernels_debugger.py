"""gdb on a machine's kernel: which file has its symbols, and what one is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.kernels import debugger
from harness.kernels.mode import mode
from harness.kernels.store import Stored, built
from tests.unit.test_kernels_store import image

SYMBOLS = b"\x7fELF...\0Linux version 6.12.1-test (me@here) (gcc 14) #%d SMP Debian 6.12.1-1 (2026-01-01)\n\0..."
SOCKET = Path("/tmp/s/gdb")


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stored:
    """A kernel in its tree, and no package with symbols."""
    (tmp_path / "arch" / "x86" / "boot").mkdir(parents=True)
    monkeypatch.setattr(debugger, "OF_PACKAGES", (f"{tmp_path}/debug/vmlinux-{{}}",))
    return built(image(tmp_path / "arch" / "x86" / "boot" / "bzImage"))


@pytest.mark.parametrize("place", ["vmlinux", "arch/x86/boot/vmlinux-6.12.1-test", "debug/vmlinux-6.12.1-test"])
def test_symbols_are_found_where_they_may_be(kernel: Stored, tmp_path: Path, place: str) -> None:
    file = tmp_path / place
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(SYMBOLS % 1)
    assert debugger.vmlinux(kernel) == (file, [])
    (line,) = debugger.advice(kernel, SOCKET)
    assert line == f"gdb {file} -ex 'target remote /tmp/s/gdb'"


@pytest.mark.parametrize("content", [SYMBOLS % 2, b"", b"Linux version 6.12.1-test2 (me@here) #1 SMP Debian"])
def test_symbols_of_another_build_are_left_alone(kernel: Stored, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "vmlinux").write_bytes(content)
    assert debugger.vmlinux(kernel) == (None, [tmp_path / "vmlinux"])
    other, gdb, none = debugger.advice(kernel, SOCKET)
    assert other == f"{tmp_path}/vmlinux is of another build than {kernel.image}, and is left alone"
    assert gdb == "gdb -ex 'set architecture i386:x86-64' -ex 'target remote /tmp/s/gdb'"
    assert re.match(r"there is no vmlinux with the symbols of 6.12.1-test: .*linux-image-6.12.1-test-dbg$", none)


def test_a_kernel_that_is_debugged_stands_where_its_symbols_say() -> None:
    assert debugger.mode(mode(append=["a"])).append == ("a", "nokaslr")
    assert debugger.mode(mode(append=["nokaslr a"])).append == ("nokaslr a",)


def test_nobody_else_comes_to_the_socket() -> None:
    with debugger.socket() as socket:
        assert socket.parent.stat().st_mode & 0o777 == 0o700
    assert not socket.parent.exists()
