"""--pdb, --tcp-hold and --tcp-gdb with --tcp-kernel: who is at the terminal is in the machine."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from .test_shell import terminal

if TYPE_CHECKING:
    from .conftest import Project

IN_A_LAB = "test_scenario.py::test_fails"


def test_pdb_is_at_the_line_that_failed_on_that_kernel(project: Project) -> None:
    old, _ = project.kernels
    # With the kernel's name, as it stands in the summary of the run that failed.
    test = f"{IN_A_LAB}[ipv4-{old.version}]"
    with terminal(project, *project.argv("--pdb", *project.on(old), test)) as shown:
        shown.read_until("(Pdb) ")
        shown.type("p 'on ' + os.uname().release\r")
        shown.read_until(f"'on {old.release}'")
        shown.type("c\r")
        shown.read_until("1 failed")
        assert shown.process.wait(timeout=60) == pytest.ExitCode.TESTS_FAILED


def test_a_lab_is_held_and_its_hosts_are_entered_from_the_shell(project: Project) -> None:
    old, _ = project.kernels
    with terminal(project, *project.argv("--tcp-hold", *project.on(old), IN_A_LAB)) as shown:
        said = shown.read_until("a shell in the machine; its end lets go of the lab")
        assert f"held: {IN_A_LAB}[ipv4-{old.version}]" in said
        (enter,) = re.findall(r"(nsenter .*?)\r", said) or [""]
        shown.type(f"{enter} ip -o link show dev lo; uname -r\r" if enter else "uname -r\r")
        shown.read_until(f"{old.release}\r")
        shown.type("exit\r")
        shown.read_until("1 failed")
        assert shown.process.wait(timeout=60) == pytest.ExitCode.TESTS_FAILED


def test_gdb_lets_the_machine_go_on(project: Project) -> None:
    if not shutil.which("gdb"):
        pytest.skip("gdb is not installed; on Debian: apt-get install gdb")
    old, _ = project.kernels
    with terminal(project, *project.argv("--tcp-gdb", *project.on(old), IN_A_LAB)) as shown:
        said = shown.read_until("the machine waits until the debugger continues it")
        (socket,) = re.findall(r"target remote (\S+)'", said)
        words = ["gdb", "-batch", "-ex", "set architecture i386:x86-64", "-ex", f"target remote {socket}"]
        words += ["-ex", "info registers gs_base k_gs_base", "-ex", "detach"]
        ran = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        # The kernel's data of the processor: in the kernel gs has it, elsewhere what swapgs puts there (entry_64.S).
        assert re.search(r"^(k_)?gs_base +0xffff", ran.stdout, re.MULTILINE), ran.stdout + ran.stderr
        shown.read_until("1 failed")
        assert shown.process.wait(timeout=60) == pytest.ExitCode.TESTS_FAILED
