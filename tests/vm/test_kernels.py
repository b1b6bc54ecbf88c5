"""Other kernels for real: brought from the archive, run in virtual machines in simulated time, as pytest's workers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError
from harness.kernels import archive, catalogue, places
from harness.kernels.machine import QEMU
from harness.kernels.store import Store, Stored
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = Path(__file__).parents[2]
# The oldest and the newest that Debian has.
WANTED = ("5.10", "newest")
# Bringing and booting a kernel for the first time, on a busy machine.
PATIENCE = 900

pytestmark = [
    pytest.mark.skipif(
        not shutil.which(QEMU), reason=f"{QEMU} is not installed; on Debian: apt-get install qemu-system-x86"
    ),
    pytest.mark.xdist_group("virtual machines"),
]

CLAIMS = """
group = "queue"
[[claim]]
id = "limit"
statement = "as many wait as may"
source = [ { document = "000", heading = "h" } ]
[[claim.expect]]
kernels = ">=3.0"
verdict = "refuted"
because = "one more waits"
commit = "64a146513f8f"
subject = "s"
release = "2.6.21"
"""

SCENARIO = """
import os, time
import pytest
from harness.observe import accept_queue
from harness.traffic import connect, listen
from harness.waiting import until

@pytest.mark.claim("queue.limit")
def test_limit(claim, pair):
    with claim.effect("nobody accepts") as effect:
        listener = listen(pair.server, 3)
        connect(pair.client, listener, 4, wait=True)
        until(lambda: accept_queue(pair.server, listener.port).waiting == 4)
        effect.compare("waiting", accept_queue(pair.server, listener.port).waiting, document=3, kernel=4)
    with claim.control("nobody comes") as control:
        control.expect("waiting", accept_queue(pair.server, listen(pair.server).port).waiting, 0)

def test_two_hours(lab):
    started = time.monotonic()
    time.sleep(7200)
    assert 7200 <= time.monotonic() - started < 7201

@pytest.mark.ipv4_only("fails once is enough")
def test_fails(lab):
    assert os.uname().release == "none"
"""


@pytest.fixture(scope="session")
def kernels() -> list[Stored]:
    """Two kernels in the cache."""
    try:
        source = archive.Archive(places.indices() / "machine", archive.machine_sources())
        source.update()
        found = catalogue.choose(WANTED, catalogue.kernels_of(source.packages()))
        return [Store(places.kernels()).fetch(one, source) for one in found]
    except HarnessError as error:
        pytest.skip(str(error))


@pytest.fixture
def run(tmp_path: Path, kernels: list[Stored]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run pytest in a project of its own on the two kernels."""
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "queue.toml").write_text(CLAIMS)
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = ['--import-mode=importlib']\n")
    options = [word for kernel in kernels for word in ("--kernel", kernel.release)]

    def run(scenario: str, *more: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_scenario.py").write_text(scenario)
        argv = [sys.executable, "-m", "pytest", "-rA", *options, *more]
        return subprocess.run(
            argv, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
        )

    return run


def test_results_come_out_as_on_the_running_kernel(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, kernels: list[Stored]
) -> None:
    began = time.monotonic()
    result = run(SCENARIO, "--junitxml=junit.xml")
    # Two hours, four times: what it takes in real time depends on the machine, but not that.
    assert time.monotonic() - began < 4 * 7200 / 10
    assert result.returncode == 1, result.stdout + result.stderr
    assert re.search(r"2 failed, 8 passed", result.stdout)
    evidence: dict[str, Any] = json.loads((tmp_path / "out" / "evidence" / "queue.limit.json").read_text())
    assert {one["kernel"]["release"] for one in evidence["runs"]} == {one.release for one in kernels}
    assert {one["verdict"] for one in evidence["runs"]} == {"refuted"}
    for kernel in kernels:
        assert f"test_fails[ipv4-{kernel.version}]" in result.stdout
        assert f"claims on Linux {kernel.release}" in result.stdout
        assert f"AssertionError: assert '{kernel.release}' == 'none'" in result.stdout
    assert (tmp_path / "junit.xml").read_text().count("<testcase") == 10


def test_a_guest_that_panics_is_reported_with_its_console(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    result = run(
        "import pytest\n@pytest.mark.ipv4_only('once')\ndef test_panics(lab):\n"
        "    open('/proc/sysrq-trigger', 'w').write('c')\n"
    )
    assert result.returncode != 0
    assert "crashed while running" in result.stdout
    assert re.search(r"died: .*\n(.*\n)*.*(Kernel panic|sysrq)", result.stderr + result.stdout)


def test_nothing_survives_pytest(tmp_path: Path, kernels: list[Stored]) -> None:
    (tmp_path / "test_scenario.py").write_text("def test_waits(lab):\n    while True: pass\n")
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    running = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--kernel", kernels[0].release],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        machines = until(lambda: _machines_of(running.pid), deadline=PATIENCE, what="a machine")
        running.send_signal(signal.SIGKILL)
        running.wait()
        until(lambda: not any(Path(f"/proc/{one}/cmdline").exists() for one in machines), what="the machines to end")
    finally:
        running.kill()
        running.wait()


def _machines_of(pid: int) -> list[int]:
    """The QEMUs below a process."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,comm="], check=True, capture_output=True, text=True).stdout
    children: dict[int, list[tuple[int, str]]] = {}
    for line in listed.splitlines():
        number, parent, name = line.split(None, 2)
        children.setdefault(int(parent), []).append((int(number), name))
    below: list[int] = []
    todo = [pid]
    while todo:
        for one, name in children.get(todo.pop(), ()):
            todo.append(one)
            if name.startswith("qemu-system"):
                below.append(one)
    return below


def test_a_kernel_without_a_machine_is_a_mistake_of_usage(tmp_path: Path) -> None:
    (tmp_path / "bzImage").write_text("no kernel")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "--kernel", str(tmp_path / "bzImage")],
        cwd=PROJECT, check=False, capture_output=True, text=True, env=os.environ,
    )  # fmt: skip
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: {tmp_path}/bzImage: not a Linux kernel image for x86" in result.stderr
