"""Tests that could harm the machine on the day they fail: in user, mount and PID namespaces that end with them."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[1]
# Whatever takes longer hangs.
ENOUGH = 120.0


def apart(code: str, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python there, as root of the namespaces, with these words as sys.argv[1:]; skips where that is forbidden.

    It is not the first process there, and sees no process of the machine. Its /dev is one of its own, in memory, and
    so is /mnt, of one MiB.
    """
    ordinary = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    # mount(8) of an ordinary user moves it, cannot write that down in /run, and says that it has failed.
    shell = (
        "set -e; mount -t tmpfs -o size=1m tmpfs /mnt; mkdir /mnt/dev; mount -t tmpfs -o mode=755 tmpfs /mnt/dev; "
        "for node in null full zero urandom; do : >/mnt/dev/$node; mount --bind /dev/$node /mnt/dev/$node; done; "
        'mount --no-mtab --move /mnt/dev /dev; ln -s /proc/self/fd/1 /dev/stdout; rmdir /mnt/dev; "$@"'
    )
    unshare = ["unshare", *ordinary, "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
    argv = [*unshare, "--propagation=private", "sh", "-c", shell, "sh", sys.executable, "-c", code, *words]
    tried = subprocess.run([*argv[: -len(words) - 3], "true"], check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no namespaces of our own can be made here: {tried.stderr.strip()}")
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    return subprocess.run(
        argv, cwd=cwd, env=environment, check=False, capture_output=True, text=True, timeout=ENOUGH,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


@contextlib.contextmanager
def no_more_than(size: int) -> Iterator[None]:
    """No file may become larger than so many bytes: what writes more fails, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
