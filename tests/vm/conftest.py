"""Two kernels of the archive, and a small project whose tests run on them.

Where QEMU is missing or no mirror can be reached, these tests are skipped with that reason. As many of them at a time
as there are PLACES, whatever the number of pytest's workers; within VM_SECONDS, if that is set.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.kernels import places
from harness.kernels.machine import QEMU
from harness.kernels.store import Store, Stored
from harness.waiting import until
from tests.claim_file import claim_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import IO

# The oldest and the newest that Debian has.
WANTED = ("5.10", "newest")
# How long bringing two kernels may take on a busy machine, in seconds; and all the tests here after that, if whoever
# starts them is in a hurry: VM_SECONDS.
FETCHING, ALL = 1200, float(os.environ.get("VM_SECONDS") or math.inf)
OVER = f"the {ALL:g} s for tests in virtual machines are over; make test VM_SECONDS={4 * ALL:g} gives them more"
# A machine takes a core.
PLACES = min(2, len(os.sched_getaffinity(0)))
# How long a test may wait for all that come before it, in seconds.
WAITING = 4 * 3600.0
# Whatever takes longer hangs.
ENOUGH = 1800.0
PROJECT = Path(__file__).parents[2]

# All that any test here wants to run: the project is delivered to the machines once, and -k chooses.
SCENARIO = """
import os, time
import pytest
from harness.observe import accept_queue
from harness.traffic import connect, listen
from harness.waiting import until

@pytest.mark.claim("queue.limit")
def test_limit(claim, pair):
    claim.capture(pair.server)
    with claim.effect("nobody accepts") as effect:
        listener = listen(pair.server, 3)
        connect(pair.client, listener, 4, wait=True)
        until(lambda: accept_queue(pair.server, listener.port).waiting == 4)
        effect.compare("waiting", accept_queue(pair.server, listener.port).waiting, document=3, kernel=4)
    with claim.control("nobody comes") as control:
        control.expect("waiting", accept_queue(pair.server, listen(pair.server).port).waiting, 0)

@pytest.mark.ipv4_only("once is enough")
@pytest.mark.claim("queue.linear")
def test_linear(claim, lab):
    # Since 6.5 (ccce324dabfe, "tcp: make the first N SYN RTO backoffs linear").
    host = lab.host("a")
    with claim.effect("a namespace that nobody has touched") as effect:
        name = "net.ipv4.tcp_syn_linear_timeouts"
        linear = int(host.sysctl[name]) if name in host.sysctl.names() else 0
        effect.compare("timeouts of a SYN that are not doubled", linear, document=4, kernel=0)
    with claim.control("what every kernel has") as control:
        control.expect("retries of a SYN", int(host.sysctl["net.ipv4.tcp_syn_retries"]), 6)

@pytest.mark.ipv4_only("once is enough")
@pytest.mark.parametrize("seconds", [7200])
def test_waits(lab, seconds):
    if "TCP_HARNESS_SIMULATED_TIME" not in os.environ:
        pytest.skip("a wait in simulated time")
    started = time.monotonic()
    time.sleep(seconds)
    assert seconds <= time.monotonic() - started < seconds + 1

@pytest.mark.ipv4_only("once is enough")
def test_fails(lab):
    assert os.uname().release == "none"

@pytest.mark.ipv4_only("once is enough")
def test_is_for_new_kernels(lab):
    assert not os.uname().release.startswith("5.10.")

@pytest.mark.ipv4_only("once is enough")
class TestSpoilt:
    @pytest.mark.claim("queue.limit")
    def test_panics(self, claim, lab):
        open("/proc/sysrq-trigger", "w").write("c")

    def test_says_what_it_runs_on(self, lab):
        memory = int(open("/proc/meminfo").read().split()[1]) >> 10
        pytest.fail(f"{os.cpu_count()} CPUs, {memory} MB, {open('/proc/cmdline').read().split()[-1]}")

    def test_computes(self, lab):
        started = time.monotonic()
        while time.monotonic() - started < 8:
            pass

    @pytest.mark.claim("queue.limit")
    def test_never_ends(self, claim, lab):
        while True:
            pass
"""


@dataclass(frozen=True)
class Project:
    """A directory with tests of its own, and the kernels to run them on."""

    directory: Path
    kernels: list[Stored]
    until: float

    def argv(self, *more: str) -> list[str]:
        """pytest's command line."""
        return [sys.executable, "-m", "pytest", *more]

    def on(self, *kernels: Stored) -> list[str]:
        """The options that name kernels."""
        return [word for kernel in kernels or self.kernels for word in ("--tcp-kernel", kernel.release)]

    @property
    def left(self) -> float:
        """How long a test may still take, in seconds."""
        return min(ENOUGH, max(60.0, self.until - time.monotonic()))

    def run(self, *more: str, below: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run pytest there."""
        return self.start(self.argv(*more), below=below, **variables)

    def start(self, argv: list[str], below: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program there; skips when that was not to be done in the time that was left."""
        left = self.left
        try:
            return subprocess.run(
                argv, cwd=self.directory / below, env=os.environ | variables, timeout=left,
                check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            if left < ENOUGH:
                pytest.skip(OVER)
            raise

    def evidence(self) -> dict[str, Any]:
        """What the claim's runs left."""
        file = self.directory / "out" / "evidence" / "queue.limit.json"
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """These tests come first to as many workers as there are places; the others do the rest meanwhile.

    pytest-xdist's worksteal begins with equal shares, one after the other.
    """
    here = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    ours = {*here}
    others = [item for item in items if item not in ours]
    workers: int = getattr(config, "workerinput", {}).get("workercount", 1)
    share = len(items) // workers
    items.clear()
    for place in range(PLACES):
        items += here[place::PLACES]
        if workers >= PLACES:
            left = max(0, (place + 1) * share - len(items))
            items += others[:left]
            del others[:left]
    items += others


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all of pytest's workers have in common."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "virtual-machines"
    place.mkdir(exist_ok=True)
    return place


@pytest.fixture(autouse=True)
def place(shared: Path) -> Iterator[int]:
    """The number of a place for a test that has machines: a machine takes a core, so there are as many as PLACES.

    An autouse fixture of a function, for the lock's sake. What tests leave in their directories is their place's.
    """
    if not shutil.which(QEMU):
        pytest.skip(f"{QEMU} is not installed; on Debian: apt-get install qemu-system-x86")
    with contextlib.ExitStack() as stack:
        locks = [stack.enter_context((shared / f"lock-{number}").open("w")) for number in range(PLACES)]
        yield until(lambda: free_one(locks), deadline=WAITING, what="a place for a machine")


def free_one(locks: Sequence[IO[str]]) -> int:
    """Take the first place that nobody has: its number, from 1 on; 0 if all are taken."""
    for number, lock in enumerate(locks, 1):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return number
    return 0


@pytest.fixture
def kernels(shared: Path, place: int) -> list[Stored]:
    """Two kernels in the cache; the first test brings them, or learns why it cannot."""
    outcome = shared / "kernels.json"
    with (shared / "bringing").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not outcome.exists():
            outcome.write_text(json.dumps(_bring()))
    releases, problem = json.loads(outcome.read_text())
    if problem:
        pytest.skip(problem)
    here = {one.release: one for one in Store(places.kernels()).all()}
    return [here[release] for release in releases]


def _bring() -> tuple[list[str], str]:
    """The releases that came, or why none did."""
    fetch = [sys.executable, "-c", "from harness.cli import main; main()", "kernels", "fetch", *WANTED]
    try:
        brought = subprocess.run(
            fetch, cwd=PROJECT, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=FETCHING
        )
    except subprocess.TimeoutExpired:
        return [], f"the kernels could not be brought within {FETCHING} s"
    if brought.returncode:
        return [], brought.stderr.strip().splitlines()[-1]
    return [line.partition(":")[0] for line in brought.stdout.splitlines()], ""


@pytest.fixture
def project(shared: Path, kernels: list[Stored], place: int) -> Project:
    """The project; skips when all the time for tests with virtual machines has passed."""
    began = shared / "began"
    with (shared / "beginning").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not began.exists():
            began.write_text(str(time.monotonic()))
    over = float(began.read_text()) + ALL
    if time.monotonic() > over:
        pytest.skip(OVER)
    directory = shared / f"project-{place}"
    if not directory.exists():
        (directory / "claims").mkdir(parents=True)
        (directory / "claims" / "queue.toml").write_text(claim_file(linear="holds"))
        (directory / "test_scenario.py").write_text(SCENARIO)
        ini = "[tool.pytest.ini_options]\naddopts = ['--import-mode=importlib']\n"
        (directory / "pyproject.toml").write_text(ini)
    return Project(directory, kernels, over)
