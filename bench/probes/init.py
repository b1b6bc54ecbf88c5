"""The first process of a sandbox: runs the program, waits, and prints what became of it, as JSON.

It is handed over as text (-c) and imports nothing of ours.
"""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Of address space, in bytes: whoever reads what has no end is ended by it before the machine has no memory.
ROOMY = 6 << 30
ROOM, HERE, TEMPORARY = "/mnt", "/mnt/here", "/mnt/tmp"
# Below the room: what a program may fill as it likes. The last two are what packages of Python have for each user.
OWN = ("/mnt/cache/", "/mnt/pytest/", TEMPORARY + "/", "/mnt/home/.cache", "/mnt/home/.config")
# Where the project's own settings put pytest's memory.
MADE_BY_PYTEST = "/.pytest_cache/"

Listing = dict[str, tuple[int, ...]]


def listing(top: str) -> Listing:
    """Each path below a directory, with what would change if somebody wrote there."""
    found: Listing = {}
    for place, directories, files in os.walk(top):
        for name in files + directories:
            path = os.path.join(place, name)
            about = os.lstat(path)
            found[path] = (about.st_mode,)
            if stat.S_ISCHR(about.st_mode) or stat.S_ISBLK(about.st_mode):
                # Its times are those of whoever used it last, on the whole machine.
                found[path] += (about.st_rdev, about.st_ino)
            elif not stat.S_ISDIR(about.st_mode):
                found[path] += (about.st_size, about.st_mtime_ns, about.st_ino)
    return found


def changed(before: Listing, after: Listing) -> list[str]:
    """Paths that are new, gone, or others than before."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def written(layers: Iterable[str]) -> Iterator[str]:
    """What stands in the layers that take what is written: files, what was removed, new directories without any."""
    for number, place in enumerate(layers):
        for top, directories, files, _ in os.fwalk(".", dir_fd=3 + 2 * number):
            path = os.path.normpath(os.path.join(place, top))
            yield from (os.path.join(path, name) for name in files)
            if not files and not directories and not was_there(top, 4 + 2 * number):
                yield path


def was_there(path: str, below: int) -> bool:
    """Whether a directory is in what a layer lies on: one in which something was made and removed is in both."""
    try:
        os.stat(path, dir_fd=below)
    except OSError:
        return False
    return True


def is_named(path: str, named: Iterable[str]) -> bool:
    """Whether somebody asked for that: the place itself, what is below it, or beside it with its name first."""
    return any(path == each or path.startswith((each.rstrip("/") + "/", each + ".")) for each in named)


def others() -> list[str]:
    """The processes beside this one, with their command lines; who has ended is buried."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    return [line for pid in sorted(os.listdir("/proc")) if pid.isdigit() and pid != "1" and (line := line_of(pid))]


def line_of(pid: str) -> str:
    """What a process was started with, or its number; "" if it has ended."""
    try:
        with open(f"/proc/{pid}/stat") as status:
            if status.read().rpartition(")")[2].split()[0] == "Z":
                return ""
        with open(f"/proc/{pid}/cmdline", errors="replace") as line:
            return line.read().replace("\0", " ").strip() or pid
    except OSError:
        return ""


def drained(fifo: str) -> None:
    """Read whatever comes, for ever: whoever writes there goes on, whoever reads there waits."""
    descriptor = os.open(fifo, os.O_RDWR)
    while True:
        os.read(descriptor, 1 << 16)


def status_of(asked: dict[str, Any], said: int) -> int | None:
    """Run the program: its status, negative for a signal; None if it has not ended in time."""
    argv, output = asked["argv"], said
    if asked["output"] == "full":
        output = os.open("/dev/full", os.O_WRONLY)
    elif asked["output"] == "closed":
        argv = ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *argv]
    process = subprocess.Popen(
        argv, cwd=HERE, env=asked["environment"], stdin=subprocess.DEVNULL, stdout=output, stderr=said,
        start_new_session=True,
    )  # fmt: skip
    try:
        return process.wait(asked["deadline"])
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def main() -> None:
    """Run what standard input says."""
    asked = json.load(sys.stdin)
    fifo = os.path.join(HERE, "fifo")
    if os.path.exists(fifo):
        threading.Thread(target=drained, args=(fifo,), daemon=True).start()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=False, stderr=subprocess.DEVNULL)
    resource.setrlimit(resource.RLIMIT_AS, (ROOMY, ROOMY))
    before, devices = listing(ROOM), listing("/dev")
    said = os.memfd_create("said", 0)
    status = status_of(asked, said)
    until = time.monotonic() + (asked["grace"] if status is not None else 0)
    while True:
        new = changed(before, listing(ROOM))
        left = [*(others() if status is not None else []), *(path for path in new if path.startswith(TEMPORARY + "/"))]
        if not left or time.monotonic() >= until:
            break
        time.sleep(0.02)
    named = [os.path.normpath(os.path.join(HERE, each)) for each in asked["named"]]
    named = [each for each in {*named, *map(os.path.realpath, named)} if each not in ("/", ROOM)]
    elsewhere = [
        *(path for path in new if path in before or not path.startswith(HERE + "/")),
        *changed(devices, listing("/dev")),
        *written(asked["layers"]),
    ]
    outside = [
        path
        for path in elsewhere
        if not path.startswith(OWN) and MADE_BY_PYTEST not in path + "/" and not is_named(path, named)
    ]
    kept = os.path.join(HERE, asked["kept"])
    answer = {"status": status, "said": _content(f"/proc/self/fd/{said}"), "outside": outside, "left": left}
    answer["kept"] = _content(kept) if asked["kept"] and os.path.isfile(kept) else ""
    # Layers and threads go with this process.
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)


def _content(path: str) -> str:
    with open(path, errors="replace") as file:
        return file.read()


if __name__ == "__main__":
    main()
