"""A machine in small, in which one pytest runs, floods, and is ended: what was there before, meanwhile, and after?

Run in the project's directory: `python -m tests.lab.small_machine DIRECTORY HOW [pytest options]`. It has mounts, a
network, /tmp and /run of its own, so that whatever a run leaves behind is found, and nobody else's things are. Who
outlives its parent becomes a child of this process. Prints what it saw as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from ctypes import CDLL
from pathlib import Path
from typing import Any

from harness.errors import NotReady
from harness.lab import isolation
from harness.waiting import until
from tests.lab import namespace_ids

MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
PR_SET_CHILD_SUBREAPER = 36
OWN = [Path(name) for name in ("/tmp", "/run", "/var/tmp", "/dev/shm") if Path(name).is_dir()]
# Of a busy machine, whose kernel takes namespaces down behind all else. A deadline measures nothing.
DEADLINE = 90.0

SCENARIO = """
import os, pytest
from pathlib import Path
from harness.observe import counters
from harness.traffic import flood
from harness.traffic.hping3 import Hping3Flood
from harness.traffic.nginx import Nginx
from harness.waiting import until

@pytest.mark.ipv4_only("hping3")
@pytest.mark.parametrize("n", [1, 2])
def test_flood(pair, n):
    pair.server.sysctl["net.core.somaxconn"] = 100 + n
    nginx = Nginx(pair.server, "8080")
    with flood(pair.server, pair.client, 8080, seconds=100, rate=2000), Hping3Flood(pair.client, pair.server.ip, 8080):
        until(lambda: counters(pair.server).TcpExt.SyncookiesSent > 1000, what="the flood", deadline=30)
        Path(f"flooding-{n}").touch()
        until(lambda: Path("enough").exists(), what="the end", deadline=90)
"""


def needed(directory: Path) -> set[Path]:
    """What the run needs of the places that get new contents: the project, Python, the run's own directory."""
    wanted = {directory, Path.cwd(), Path(sys.prefix), Path(sys.base_prefix), *map(Path, sys.path)}
    return {path for path in wanted if path.is_dir() and any(path.is_relative_to(own) for own in OWN)}


def make_it_small(directory: Path) -> None:
    """Mounts, network, and places for files of its own; children of the dead come to this process."""
    isolation._unshare(isolation.CLONE_NEWNS | isolation.CLONE_NEWNET)
    isolation.mount("none", "/", "none", MS_REC | MS_PRIVATE)
    held = {path: os.open(path, os.O_PATH) for path in sorted(needed(directory))}
    project = Path.cwd()
    for own in OWN:
        isolation.mount("tmpfs", str(own), "tmpfs", 0, "mode=1777")
    for path, fd in held.items():
        path.mkdir(parents=True, exist_ok=True)
        isolation.mount(f"/proc/self/fd/{fd}", str(path), "none", MS_BIND | MS_REC)
        os.close(fd)
    os.chdir(project)
    CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def processes() -> dict[int, str]:
    """The descendants of this process by id, with their names; the dead among them are buried first."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    parents, names = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            name, _, rest = (entry / "stat").read_text().rpartition(")")
            parents[int(entry.name)], names[int(entry.name)] = int(rest.split()[1]), name.partition("(")[2]
    found: dict[int, str] = {}
    level = {os.getpid()}
    while level:
        level = {pid for pid, parent in parents.items() if parent in level}
        found |= {pid: names[pid] for pid in level}
    return found


def give_ids(pids: dict[int, str]) -> int:
    """Give each network namespace that the processes live in or hold an id; how many there are."""
    seen = {Path("/proc/self/ns/net").stat().st_ino}
    for pid in pids:
        with suppress(OSError):
            for path in (Path(f"/proc/{pid}/ns/net"), *Path(f"/proc/{pid}/fd").iterdir()):
                with suppress(OSError):
                    if str(path.readlink()).startswith("net:") and path.stat().st_ino not in seen:
                        seen.add(path.stat().st_ino)
                        fd = os.open(path, os.O_RDONLY)
                        namespace_ids.give(fd, len(seen))
                        os.close(fd)
    return len(seen) - 1


def sysctls() -> dict[str, str]:
    """The sysctls of this network namespace, and some of the whole machine."""
    found = {}
    everything = [Path(folder, name) for folder, _, names in os.walk("/proc/sys/net") for name in names]
    for path in (*everything, Path("/proc/sys/fs/file-max"), Path("/proc/sys/fs/nr_open")):
        with suppress(OSError):
            found[str(path)] = path.read_text()
    found.pop("/proc/sys/net/netfilter/nf_conntrack_count", None)
    return found


def files(directory: Path) -> list[str]:
    """All files in the places where files are left, but for what we were asked to keep there."""
    kept = needed(directory)
    found = []
    for own in OWN:
        for folder, folders, names in os.walk(own):
            folders[:] = [name for name in folders if Path(folder, name) not in kept]
            found += [str(Path(folder, name)) for name in (*folders, *names)]
    return sorted(found)


def snapshot(directory: Path) -> dict[str, Any]:
    """All of the machine that a run could change."""
    rules = (
        subprocess.run(["nft", "list", "ruleset"], capture_output=True, check=False) if shutil.which("nft") else None
    )
    return {
        "processes": sorted(processes().values()),
        "namespaces": sorted(namespace_ids.alive()),
        "links": socket.if_nameindex(),
        "rules": rules.stdout.decode() if rules else "",
        "sysctls": sysctls(),
        "files": files(directory),
        "mounts": Path("/proc/self/mountinfo").read_text().splitlines(),
    }


def end(how: str, pid: int, workers: list[int], directory: Path) -> None:
    """End the run in the way that is named."""
    if how == "normally":
        (directory / "enough").touch()
    elif how == "Ctrl-C":
        os.killpg(pid, signal.SIGINT)
    elif how == "SIGKILL":
        os.kill(pid, signal.SIGKILL)
    else:
        assert how == "SIGKILL of all"
        for one in (pid, *workers):
            os.kill(one, signal.SIGKILL)


def main(directory: Path, how: str, *options: str) -> dict[str, Any]:
    """Run, flood, end; what was seen before, meanwhile and after."""
    make_it_small(directory)
    (directory / "pytest.ini").write_text("[pytest]\n")
    (directory / "conftest.py").write_text('pytest_plugins = ["harness.plugin"]\n')
    (directory / "test_scenario.py").write_text(SCENARIO)
    project = Path.cwd()
    os.environ |= {"PYTHONPATH": os.pathsep.join((str(project), *sys.path)), "PYTHONDONTWRITEBYTECODE": "1"}
    # pytest itself keeps a directory for each of its last three sessions there, if they had workers.
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(directory)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    # A shell starts what it does not wait for with this ignored, and so would be whatever is started by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before = snapshot(directory)
    with (directory / "output").open("wb") as output:
        run = subprocess.Popen(command, cwd=directory, stdout=output, stderr=output, start_new_session=True)
    floods = 2 if options else 1
    try:
        until(lambda: len([*directory.glob("flooding-*")]) == floods, deadline=DEADLINE, what="floods")
    except NotReady as error:
        return {"failed": f"{error}\n{(directory / 'output').read_text()}"}
    family = processes()
    given = give_ids(family)
    meanwhile = snapshot(directory)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    end(how, run.pid, [int(child) for child in children] if options else [], directory)
    after = meanwhile
    parts = ("processes", "namespaces", "links", "rules", "files", "mounts")

    def as_before() -> bool:
        nonlocal after
        after = snapshot(directory)
        return all(after[part] == before[part] for part in parts)

    with suppress(NotReady):
        until(as_before, deadline=DEADLINE)
    # Names that are new come from modules which somebody loaded meanwhile.
    after["sysctls"] = {name: after["sysctls"].get(name) for name in before["sysctls"]}
    return {"before": before, "meanwhile": meanwhile, "after": after, "ids given": given,
            "output": (directory / "output").read_text()}  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), *sys.argv[2:])))
