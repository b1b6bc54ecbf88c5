"""python -m bench.faults [NAME…]: a run in which something fails, and what must remain of it.

Each fault is injected into a run of a small scenario on the running kernel, in mount and PID namespaces of its own.
What must remain: no traceback, an exit status that says so, evidence that can be read as far as it goes, and no
process. Ends with 1 where something else came of it. What guests do is in tests/vm.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import BadInput
from harness.evidence import codec
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

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
TEST = """
import os, time
import pytest

@pytest.mark.claim("queue.limit")
@pytest.mark.parametrize("n", range(4))
def test_limit(claim, lab, n):
    host = lab.host("a")
    with claim.effect("an effect") as effect:
        effect.compare("hosts", len(lab.all_hosts), document=1, kernel=1)
    with claim.control("a control") as control:
        control.expect("hosts", len(lab.all_hosts), 1)
    if n == 2:
        open("at-the-third", "w").close()
        time.sleep(float(os.environ.get("WAITS", 0)))
"""
SHELL = "ulimit -c 0; cd /mnt/run; "


@dataclass(frozen=True)
class Fault:
    """A fault: what the shell does before and around pytest (PYTEST stands for its command), and what must remain.

    `statuses` are the exit statuses that say it, `runs` how many of four there is evidence of at least.
    """

    name: str
    what: str
    script: str
    statuses: tuple[int, ...]
    runs: int = 0
    size: str = "64m"
    kill: str = ""


FAULTS = (
    Fault("none", "nothing fails", "PYTEST", (0,), 4),
    Fault("workers", "nothing fails, with two workers", "PYTEST -n 2", (0,), 4),
    Fault("full-disk", "the disk is full", "cat /dev/zero >fill 2>/dev/null; PYTEST", (4,), size="128k"),
    Fault("read-only", "the place of evidence is read-only", "mount -o remount,ro /mnt; PYTEST", (4,)),
    Fault("report-full", "the report goes to /dev/full", "PYTEST --tcp-ktap=/dev/full", (4,), 4),
    # Root could raise the limit again, and a lab does.
    Fault(
        "descriptors",
        "there are 16 descriptors",
        "ulimit -n 16; setpriv --bounding-set=-sys_resource PYTEST",
        (1, 2, 3, 4),
    ),
    Fault("memory", "there are 200 MB of address space", "ulimit -v 200000; PYTEST", (1, 2, 3, 4)),
    Fault("closed-pipe", "nobody reads the output", "PYTEST | true; exit $?", (0,), 0),
    Fault("no-input", "standard input is closed", "PYTEST <&-", (0,), 4),
    Fault("no-path", "there is no PATH", "PATH=; export PATH; PYTEST", (0, 1, 2, 4)),
    Fault("no-home", "there is no HOME, and an odd locale", "unset HOME; LC_ALL=xx_YY; export LC_ALL; PYTEST", (0,), 4),
    Fault("killed", "pytest is killed in the third test", "WAITS=100 PYTEST", (-9, 137), 2, kill="pytest"),
    Fault("terminated", "pytest is terminated in the third test", "WAITS=100 PYTEST", (-15, 143, 2), 2, kill="TERM"),
    Fault("interrupted", "Ctrl-C in the third test", "WAITS=100 PYTEST", (2,), 2, kill="INT"),
    Fault("worker-killed", "a worker is killed in the third test", "WAITS=3 PYTEST -n 1", (1,), 3, kill="worker"),
)


def tried(fault: Fault, directory: Path) -> str:
    """What came of a fault; "" if what must remain remains."""
    (directory / "claims").mkdir(parents=True)
    (directory / "claims" / "queue.toml").write_text(CLAIM)
    (directory / "test_faults.py").write_text(TEST)
    (directory / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider -q\n")
    pytest = f"{sys.executable} -m pytest --tcp-evidence=/mnt/run/e"
    script = (
        f"mount -t tmpfs -o size={fault.size} tmpfs /mnt && mkdir /mnt/run && cp -r {directory}/. /mnt/run/ "
        f"&& {SHELL}{fault.script.replace('PYTEST', pytest)}; status=$?; "
        f"cp -r /mnt/run/e {directory}/kept 2>/dev/null; exit $status"
    )
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--propagation=private"]
    ordinary = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        [words[0], *ordinary, *words[1:], "sh", "-c", script], env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    if fault.kill:
        _kill(fault, process)
    said, _ = process.communicate(timeout=ENOUGH)
    return _wrong(fault, process.returncode, said, directory / "kept")


def _kill(fault: Fault, process: subprocess.Popen[str]) -> None:
    """Send a signal to pytest, or to its worker, when it is in the third test."""

    def victim() -> int | None:
        """Whom to send it to; 0 when all has ended before the third test."""
        pytests = _pytests(process.pid)
        if any(Path(f"/proc/{pid}/cwd/at-the-third").exists() for pid in pytests):
            return max(pytests) if fault.kill == "worker" else min(pytests)
        return None if process.poll() is None else 0

    found = until(lambda: (pid := victim()) is not None and (pid,), deadline=ENOUGH, what="the third test")
    if found and found[0]:
        os.kill(found[0], {"TERM": signal.SIGTERM, "INT": signal.SIGINT}.get(fault.kill, signal.SIGKILL))


def _pytests(above: int) -> list[int]:
    """The Pythons below a process."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,comm="], check=True, capture_output=True, text=True).stdout
    parents = {}
    for line in listed.splitlines():
        pid, parent, name = line.split(None, 2)
        parents[int(pid)] = (int(parent), name)

    def is_below(pid: int) -> bool:
        while pid in parents:
            if pid == above:
                return True
            pid = parents[pid][0]
        return False

    return [pid for pid, (_, name) in parents.items() if name.startswith(("python", "pytest")) and is_below(pid)]


def _wrong(fault: Fault, status: int, said: str, kept: Path) -> str:
    if status not in fault.statuses:
        return f"it ended with {status}: {said[-300:]!r}"
    if fault.name not in ("memory", "descriptors", "closed-pipe") and ("Traceback" in said or "INTERNALERROR" in said):
        return f"a traceback: {said[-600:]}"
    if kept.is_dir():
        try:
            read = codec.read_directory(kept)
        except BadInput as error:
            return f"its evidence cannot be read: {error}"
        runs = [run for file in read.files for run in file.runs]
        if read.notices or len(runs) < fault.runs:
            return f"{len(runs)} runs of {fault.runs} are kept; {json.dumps(read.notices)}"
    elif fault.runs:
        return "no evidence is kept"
    return ""


def main(words: list[str], say: Callable[[str], None] = print) -> int:
    """Inject them, print a line for each."""
    wrong = 0
    for fault in [each for each in FAULTS if not words or each.name in words]:
        with tempfile.TemporaryDirectory(prefix="harness-faults-") as directory:
            why = tried(fault, Path(directory))
        wrong += bool(why)
        say(f"{fault.name:<14} {fault.what}: {why or 'what must remain remains'}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
