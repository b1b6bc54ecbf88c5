"""Where the box and the machines are: below one directory, /var/lib/tcp-harness-vagrant or TCP_HARNESS_VAGRANT.

libvirt runs QEMU as a user of its own, who must be able to read kernels and disks: nothing of this is in a home.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import Forbidden, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = "TCP_HARNESS_VAGRANT"
DEFAULT = "/var/lib/tcp-harness-vagrant"


def directory() -> Path:
    """All that is ours."""
    return Path(os.environ.get(DIRECTORY, DEFAULT))


def box() -> Path:
    """What Vagrantfile reads: the box, its catalogue, and a kernel with its initrd for each machine."""
    return directory() / "box"


def downloads() -> Path:
    """What a box is made of and can be had again: packages of Python."""
    return directory() / "downloads"


def home() -> Path:
    """VAGRANT_HOME: the box as Vagrant unpacks it."""
    return directory() / "home"


def running() -> Path:
    """What exists only while machines run: their disks, libvirt's own files."""
    return directory() / "running"


def need_room(gigabytes: float, what: str) -> None:
    """Unsupported if there is less room than that."""
    above = directory()
    while not above.exists():
        above = above.parent
    free = shutil.disk_usage(above).free / 1e9
    if free < gigabytes:
        raise Unsupported(
            f"{directory()}: {what} needs {gigabytes:g} GB there, {free:.1f} GB are free; "
            f"make room, or name another place: {DIRECTORY}=DIRECTORY"
        )


@contextmanager
def alone() -> Iterator[int]:
    """Keep other runs away for as long as the block, or as whoever inherits the descriptor; Forbidden if one is there.

    The lock is on the directory, so that no file is left and none is in the way after a kill.
    """
    try:
        if not directory().is_dir():
            directory().mkdir(parents=True)
            directory().chmod(0o755)  # whatever the umask is: QEMU's user has to get in
        descriptor = os.open(directory(), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Unsupported(
            f"{directory()}: cannot be used: {error.strerror}; name another place: {DIRECTORY}=DIRECTORY"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Forbidden(
                f"{directory()}: machines are up there, or a box is being built; "
                f"take them down with `harness vagrant down`, or name another place: {DIRECTORY}=DIRECTORY"
            ) from None
        yield descriptor
    finally:
        os.close(descriptor)
        with suppress(OSError):  # unless it is empty: then nothing came of it
            directory().rmdir()
