"""A machine of its own for a program: whatever it writes, wherever, is seen, and so is whatever it leaves.

The program sees this machine's files below a layer that takes what is written (overlayfs), in mount, PID and network
namespaces of its own: it reaches no other process, no device but those of /dev that every program has, no network.
Below ROOM it has its current directory `here`, its `home`, `tmp` for temporary files, and a `cache`.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

PROJECT = Path(__file__).parents[2]
ROOM = Path("/mnt")
HERE = ROOM / "here"
INIT = Path(__file__).with_name("init.py")
# What the first process has for itself beside the program's deadline, in seconds.
MORE = 60.0
# util-linux: the kernel ends what follows when the thread that started it ends.
ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL")
# $1 is the directory that becomes the room; the others are mount points, that of / first. Descriptor 3 + 2N is what is
# written to the Nth of them, 4 + 2N what was there before.
MOUNTS = """
set -e
room=$1; shift
mount -t tmpfs tmpfs /mnt
cd /mnt
number=0
for place in "$@"; do
    mkdir "upper$number" "work$number"
    mkdir -p "root$place"
    mount -t overlay -o "lowerdir=$place,upperdir=upper$number,workdir=work$number" overlay "root$place"
    eval "exec $((3 + 2 * number))<upper$number $((4 + 2 * number))<$place"
    number=$((number + 1))
done
# No archive is known, which is said at once: one that is not reached is tried again and again.
mkdir nothing
test ! -d root/etc/apt || mount --bind nothing root/etc/apt
cd root
mount -t tmpfs tmpfs mnt
cp -a "$room/." mnt/
mount -t proc proc proc
mount -t sysfs sysfs sys 2>/dev/null || mount --rbind /sys sys
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do touch "dev/$node"; mount --bind "/dev/$node" "dev/$node"; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for name in 0stdin 1stdout 2stderr; do ln -s "/proc/self/fd/${name%%[a-z]*}" "dev/${name#?}"; done
mkdir mnt/.before
pivot_root . mnt/.before
cd /
umount -l /mnt/.before
rmdir /mnt/.before
"""


class Ended(NamedTuple):
    """How a program ended: its status (None: it had not by its deadline), what it said, and what is where it was not.

    `outside` are files that it wrote where nobody asked it to, `left` are its processes and temporary files that were
    there when it had ended. `kept` is what was asked for, if it was there.
    """

    status: int | None
    said: str
    outside: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    kept: str = ""


@dataclass(frozen=True)
class Program:
    """What runs: `named` are the places where it may write beside `here`, `kept` the file of `here` that is wanted.

    `output` is where its standard output goes: "" to us, "full" to /dev/full, "closed" nowhere.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    named: tuple[str, ...] = ()
    deadline: float = 120.0
    grace: float = 10.0
    output: str = ""
    kept: str = ""


def environment(**more: str) -> dict[str, str]:
    """What a program has by default."""
    return {
        "PATH": os.environ["PATH"], "HOME": str(ROOM / "home"), "TMPDIR": str(ROOM / "tmp"), "LANG": "C.UTF-8",
        "PYTEST_DEBUG_TEMPROOT": str(ROOM / "pytest"), "HARNESS_CACHE": str(ROOM / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1", **more,
    }  # fmt: skip


def lay(room: Path) -> None:
    """Make the room's directories."""
    for name in ("here", "home", "tmp", "cache", "pytest"):
        (room / name).mkdir(parents=True, exist_ok=True)


def run(program: Program, room: Path) -> Ended:
    """Run it; `room` is what is copied to ROOM."""
    # Where the scenarios have their temporary files (scenarios/conftest.py): in a clone that was used it is there, and
    # in one that is somebody else's they have none.
    with contextlib.suppress(OSError):
        (PROJECT / "out" / "tmp").mkdir(parents=True, exist_ok=True)
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--net", "--propagation=private"]
    ordinary = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    asked = {
        "argv": program.argv, "environment": dict(program.environment), "named": program.named,
        "deadline": program.deadline, "grace": program.grace, "output": program.output, "kept": program.kept,
        "layers": _layers(),
    }  # fmt: skip
    namespaces = [*ENDS_WITH_US, words[0], *ordinary, *words[1:]]
    script = f'{MOUNTS}\nexec "$0" -I -S -c "$INIT"'
    with tempfile.TemporaryFile() as given:
        given.write(json.dumps(asked).encode())
        given.seek(0)
        try:
            ended = subprocess.run(
                [*namespaces, "sh", "-c", script, sys.executable, str(room), *_layers()],
                stdin=given, capture_output=True, check=False, timeout=program.deadline + program.grace + MORE,
                env=os.environ | {"INIT": INIT.read_text(encoding="utf-8")},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Ended(None, "not even its first process has ended")
    if ended.returncode:
        raise OSError(f"no sandbox: {ended.stderr.decode(errors='replace')[-500:]}")
    told = json.loads(ended.stdout)
    return Ended(told["status"], told["said"], tuple(told["outside"]), tuple(told["left"]), told["kept"])


def _layers() -> list[str]:
    """The mount points that a program needs: that of / first, then those where Python and the project are."""
    needed = {Path("/")}
    for place in (PROJECT, Path(sys.prefix), Path(sys.base_prefix)):
        needed.add(next(each for each in (place, *place.parents) if each.is_mount()))
    return [str(each) for each in sorted(needed)]
