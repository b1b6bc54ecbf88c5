"""python -m bench.faults [NAME…]: a run in which something fails, and what must remain of it.

Each fault is injected into a run of a small scenario on the running kernel, in mount and PID namespaces of its own.
What must remain: no traceback, an exit status that says so, evidence that can be read as far as it goes, no process
and no folder. Ends with 1 where something else came of it. What guests do is in tests/vm.

A run has four processes that can be killed: pytest, its worker, the one that holds a lab's programs together, and the
first of these programs. Each is, at each of five phases: while tests are collected, in a lab that has just been made,
in the middle of an experiment, while the lab is taken down, and when all tests have run.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import BadInput
from harness.evidence import codec
from harness.orphans import Process
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT = Path(__file__).parents[1]
ENOUGH = 300.0
CLAIM = """
group = "queue"
[[claim]]
id = "limit"
statement = "ten wait"
source = [{ document = "000", heading = "h" }]
expect = [{ kernels = ">=3.0", verdict = "holds", because = "so" }]
"""
# Where a run waits, once, for what is done to it.
CONFTEST = """
import os, pathlib, time

def here(phase):
    if os.environ.get("PHASE") != phase:
        return
    try:
        pathlib.Path("is-there").touch(exist_ok=False)
    except FileExistsError:
        return
    began = time.monotonic()
    while not pathlib.Path("go-on").exists() and time.monotonic() < began + 100:
        time.sleep(0.01)

def pytest_collection_finish(session):
    here("collecting")

def pytest_sessionfinish(session):
    here("ending-worker" if hasattr(session.config, "workerinput") else "ending")
"""
TEST = """
import os, subprocess
import pytest
from conftest import here

@pytest.fixture
def crossed(lab, n):
    host = lab.host("a")
    host.start("sleep", "1000")
    yield host
    if n == 2:
        here("teardown")

@pytest.mark.claim("queue.limit")
@pytest.mark.parametrize("n", range(4))
def test_limit(claim, lab, crossed, n):
    if n == 2:
        here("lab")
    with claim.effect("an effect") as effect:
        effect.compare("hosts", len(lab.all_hosts), document=1, kernel=1)
        if n == 2:
            here("experiment")
            subprocess.run(["sh", "-c", os.environ.get("HAPPENS", "")], check=False)
        effect.premise("a program says", crossed.run("echo", "yes").stdout.strip(), "yes")
    with claim.control("a control") as control:
        control.expect("hosts", len(lab.all_hosts), 1)
"""
# The first process of the namespace, when the shell has done: what is left of the run, and its evidence, for us to see.
AFTERWARDS = """
import os, pathlib, shutil, sys, time
status, place = int(sys.argv[1]), pathlib.Path(sys.argv[2])
until = time.monotonic() + 20
while True:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    left = []
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"):
        try:
            left.append(pathlib.Path("/proc/%d/cmdline" % pid).read_text().replace("\\0", " ").strip() or str(pid))
        except OSError:
            pass
    left += [str(each) for each in pathlib.Path("/mnt/tmp").iterdir()]
    if not left or time.monotonic() > until:
        break
    time.sleep(0.05)
(place / "left").write_text(", ".join(left))
if pathlib.Path("e").is_dir():
    shutil.copytree("e", place / "kept")
os._exit(status)
"""


@dataclass(frozen=True)
class Fault:
    """A fault: what the shell does before and around pytest (PYTEST stands for its command), and what must remain.

    `statuses` are the exit statuses that say it, `runs` how many of eight there is evidence of at least. `victim` is
    what gets `signal` at `phase`, and SIGCONT afterwards if that is SIGSTOP.
    """

    name: str
    what: str
    script: str
    statuses: tuple[int, ...]
    runs: int = 0
    size: str = "64m"
    victim: str = ""
    phase: str = "experiment"
    signal: signal.Signals = signal.SIGKILL


# What pytest ends with where all is well, and where something failed; and what a shell says of whom SIGKILL ended.
OK, SAID, KILLED = (0,), (1,), (137,)
PHASES = {
    "collecting": "while tests are collected",
    "lab": "in a lab that has just been made",
    "experiment": "in the middle of an experiment",
    "teardown": "while the lab is taken down",
    "ending": "when all tests have run",
}
VICTIMS = {
    "pytest": "pytest is killed",
    "worker": "the worker is killed",
    "holder": "the process that holds a lab's programs together is killed",
    "first": "the first process of a lab's programs is killed",
}


def _kills() -> Iterator[Fault]:
    """Each process at each phase at which it is there. What has a result keeps it."""
    kept = {"collecting": 0, "lab": 2, "experiment": 2, "teardown": 2, "ending": 8}
    for victim, what in VICTIMS.items():
        for phase, when in PHASES.items():
            if victim in ("holder", "first") and phase in ("collecting", "ending"):
                continue
            at, statuses, runs, workers = phase, SAID, 8, "-n 1"
            if victim == "pytest":
                statuses, runs, workers = KILLED, kept[phase], ""
            elif phase == "ending":  # the worker has handed over all that it had
                at, statuses = "ending-worker", OK
            yield Fault(
                f"{victim}-{phase}", f"{what} {when}", f"PHASE={at} PYTEST {workers}", statuses, runs,
                victim=victim, phase=at,
            )  # fmt: skip


# An ordinary user cannot change a whole file system's options (tmpfs has his number among them), but a mount's.
FAULTS = (
    Fault("none", "nothing fails", "PYTEST", (0,), 8),
    Fault("workers", "nothing fails, with two workers", "PYTEST -n 2", (0,), 8),
    Fault("full-disk", "the disk is full", "cat /dev/zero >fill 2>/dev/null; PYTEST", (4,), size="128k"),
    Fault(
        "fills",
        "the disk fills in the third test",
        "HAPPENS='cat /dev/zero >fill' PYTEST; s=$?; rm -f fill; (exit $s)",
        (4,),
        2,
        size="1m",
    ),
    Fault("read-only", "the place of evidence is read-only", "mount -o remount,bind,ro /mnt/run; PYTEST", (4,)),
    Fault(
        "becomes-read-only",
        "the place of evidence becomes read-only in the third test",
        "HAPPENS='mount -o remount,bind,ro /mnt/run' PYTEST",
        (4,),
        2,
    ),
    Fault("is-removed", "the evidence is removed in the third test", "HAPPENS='rm -r e' PYTEST", (0,), 8),
    Fault("report-full", "the report goes to /dev/full", "PYTEST --tcp-ktap=/dev/full", (4,), 8),
    # Root could raise the limit again, and a lab does.
    Fault(
        "descriptors",
        "there are 16 descriptors",
        "ulimit -n 16; setpriv --bounding-set=-sys_resource PYTEST",
        (1, 2, 3, 4),
    ),
    Fault("memory", "there are 200 MB of address space", "ulimit -v 200000; PYTEST", (1, 2, 3, 4)),
    Fault("closed-pipe", "nobody reads the output", "PYTEST | true; exit $?", (0,), 0),
    Fault("no-input", "standard input is closed", "PYTEST <&-", (0,), 8),
    Fault("no-path", "there is no PATH", "PATH=; export PATH; PYTEST", (0,), 8),
    Fault("no-home", "there is no HOME, and an odd locale", "unset HOME; LC_ALL=xx_YY; export LC_ALL; PYTEST", (0,), 8),
    Fault(
        "clock-since-boot",
        "the clocks since boot are eleven days ahead, in a time namespace",
        "unshare --time --boottime=1000000 --monotonic=1000000 PYTEST",
        (0,),
        8,
    ),
    *_kills(),
    Fault(
        "terminated", "pytest is terminated in the third test", "PHASE=experiment PYTEST", (143,), 2,
        victim="pytest", signal=signal.SIGTERM,
    ),
    Fault(
        "interrupted", "Ctrl-C in the third test", "PHASE=experiment PYTEST", (2,), 2,
        victim="pytest", signal=signal.SIGINT,
    ),
    Fault(
        "stopped", "the worker stands still for a moment", "PHASE=experiment PYTEST -n 1", (0,), 8,
        victim="worker", signal=signal.SIGSTOP,
    ),
)  # fmt: skip


def tried(fault: Fault, directory: Path) -> str:
    """What came of a fault; "" if what must remain remains."""
    given = directory / "given"
    (given / "claims").mkdir(parents=True)
    (given / "claims" / "queue.toml").write_text(CLAIM)
    (given / "conftest.py").write_text(CONFTEST)
    (given / "test_faults.py").write_text(TEST)
    (given / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider -q\npythonpath = .\n")
    pytest = f"{sys.executable} -m pytest --tcp-evidence=/mnt/run/e"
    script = (
        f"mount -t tmpfs tmpfs /mnt && mkdir /mnt/run /mnt/tmp /mnt/pytest && "
        f"mount -t tmpfs -o size={fault.size} tmpfs /mnt/run && cp -r {given}/. /mnt/run/ && cd /mnt/run || exit 99; "
        f"(ulimit -c 0; {fault.script.replace('PYTEST', pytest)}); "
        f"exec {sys.executable} -I -c '{AFTERWARDS}' $? {directory}"
    )
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--propagation=private"]
    ordinary = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    own = {"TMPDIR": "/mnt/tmp", "PYTEST_DEBUG_TEMPROOT": "/mnt/pytest"}
    environment = os.environ | own | {"PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        [words[0], *ordinary, *words[1:], "sh", "-c", script], env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        if fault.victim:
            _strike(fault, process)
        said, _ = process.communicate(timeout=ENOUGH)
    finally:
        process.kill()
    return _wrong(fault, process.returncode, said, directory)


class Running(NamedTuple):
    """A process of a run."""

    pid: int
    parent: int
    name: str


def _strike(fault: Fault, process: subprocess.Popen[str]) -> None:
    """Send the fault's signal to its victim when the run waits in its phase, and let the run go on."""
    until(
        lambda: _waits(process.pid) or process.poll() is not None,
        deadline=ENOUGH,
        what=f"a run that waits: {fault.phase}",
    )
    where = _waits(process.pid)
    if where is None:  # it has ended before
        return
    victim = Process(_victims(process.pid)[fault.victim].pid)
    victim.signal(fault.signal)
    if fault.signal == signal.SIGSTOP:
        state = Path(f"/proc/{victim.pid}/stat")
        until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", what="a process that stands still")
        victim.signal(signal.SIGCONT)
    else:
        # The first of a PID namespace has ended when whoever started the others has waited for them: these end with it.
        ends = [each.pid for each in _below(process.pid) if each.name == "sleep"] if fault.victim == "first" else []
        gone = [Process(pid) for pid in ends] or [victim]
        if fault.signal == signal.SIGKILL:
            until(lambda: not any(each.alive() for each in gone), what="the end of the victim")
    with contextlib.suppress(OSError):  # with pytest its directory may have gone
        (where / "go-on").touch()


def _waits(above: int) -> Path | None:
    """The directory of a run that waits; None if none does."""
    for each in _below(above):
        where = Path(f"/proc/{each.pid}/root/mnt/run")
        if (where / "is-there").exists():
            return where
    return None


def _below(above: int) -> list[Running]:
    """The processes below another."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,comm="], check=True, capture_output=True, text=True).stdout
    fields = [line.split(None, 2) for line in listed.splitlines()]
    running = {int(pid): Running(int(pid), int(parent), name) for pid, parent, name in fields}

    def is_below(pid: int) -> bool:
        while pid in running:
            if pid == above:
                return True
            pid = running[pid].parent
        return False

    return [each for each in running.values() if is_below(each.pid)]


def _victims(above: int) -> dict[str, Running]:
    """Who is who in a run. A worker is pytest itself where there is none of its own."""
    running = {each.pid: each for each in _below(above)}

    def is_python(pid: int) -> bool:
        return pid in running and running[pid].name.startswith(("python", "pytest"))

    pythons = [each for each in running.values() if is_python(each.pid)]
    found = {"pytest": next(each for each in pythons if not is_python(each.parent))}
    found["worker"] = next((each for each in pythons if is_python(each.parent)), found["pytest"])
    for each in running.values():
        if each.name == "unshare" and is_python(each.parent):
            found["holder"] = each
    for each in running.values():
        if "holder" in found and each.parent == found["holder"].pid:
            found["first"] = each
    return found


def _wrong(fault: Fault, status: int, said: str, directory: Path) -> str:
    """What is not as it must be."""
    if status not in fault.statuses:
        return f"it ended with {status}: {said[-300:]!r}"
    if left := (directory / "left").read_text():
        return f"it has left {left}"
    if fault.name not in ("memory", "descriptors", "closed-pipe") and ("Traceback" in said or "INTERNALERROR" in said):
        return f"a traceback: {said[-600:]}"
    return _lost(fault, directory / "kept")


def _lost(fault: Fault, kept: Path) -> str:
    """What evidence has to be there, and is not."""
    if not kept.is_dir():
        return "no evidence is kept" if fault.runs else ""
    try:
        read = codec.read_directory(kept)
    except BadInput as error:
        return f"its evidence cannot be read: {error}"
    runs = [run for file in read.files for run in file.runs]
    if read.notices or len(runs) < fault.runs:
        return f"{len(runs)} runs are kept, and {fault.runs} at least had to be; {json.dumps(read.notices)}"
    return ""


def main(words: list[str], say: Callable[[str], None] = print) -> int:
    """Inject them, print a line for each."""
    wrong = 0
    for fault in [each for each in FAULTS if not words or each.name in words]:
        with tempfile.TemporaryDirectory(prefix="harness-faults-") as directory:
            why = tried(fault, Path(directory))
        wrong += bool(why)
        say(f"{fault.name:<18} {fault.what}: {why or 'what must remain remains'}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
