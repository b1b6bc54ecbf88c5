"""What has to be there before anything is made: programs, and the right to start machines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from harness.errors import Forbidden, MissingProgram
from harness.kernels import places as cache
from harness.vagrant import places

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Program, and Debian's package of it.
TO_BUILD = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "dumpe2fs": "e2fsprogs",
    "qemu-img": "qemu-utils",
    "dpkg-deb": "dpkg",
    "chroot": "coreutils",
    "unshare": "util-linux",
}
TO_RUN = {
    "vagrant": "vagrant",
    "libvirtd": "libvirt-daemon",
    "virsh": "libvirt-clients",
    "dnsmasq": "dnsmasq-base",
    "qemu-system-x86_64": "qemu-system-x86",
    "rsync": "rsync",
    "ssh": "openssh-client",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "ip": "iproute2",
}
# What has no program of its own: a file that says that it is there.
PARTS = {
    "vagrant-libvirt": "/usr/share/doc/vagrant-libvirt",
    "libvirt-daemon-system": "/etc/libvirt/qemu.conf",
    "libvirt-daemon-driver-qemu": "/usr/share/doc/libvirt-daemon-driver-qemu",
}


def programs(wanted: dict[str, str]) -> None:
    """MissingProgram for the first that is not here."""
    for program, package in wanted.items():
        if shutil.which(program, path=SEARCH_PATH) is None:
            raise MissingProgram(program, package)


def parts() -> None:
    """MissingProgram for the first that is not here."""
    for package, file in PARTS.items():
        if not Path(file).exists():
            raise MissingProgram(package, package)


def may_be_root() -> bool:
    """Whether this is root, or sudo asks no password."""
    if os.geteuid() == 0:
        return True
    sudo = shutil.which("sudo")
    return sudo is not None and subprocess.run([sudo, "-n", "true"], check=False, capture_output=True).returncode == 0


def root() -> None:
    """Go on as root; Forbidden without that right."""
    if os.geteuid() == 0:
        return
    if not may_be_root():
        raise Forbidden(
            "machines of libvirt need root: run this as root, or where sudo asks no password "
            "(`pytest --tcp-kernel` needs neither)"
        )
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TERM", places.DIRECTORY) if name in os.environ}
    words = [f"{name}={value}" for name, value in (kept | {cache.CACHE: str(cache.cache())}).items()]
    os.execvp("sudo", ["sudo", "-n", "env", *words, str(Path(sys.argv[0]).absolute()), *sys.argv[1:]])


def give_back(*directories: Path) -> None:
    """Under sudo: what root has written below these directories belongs to the user who asked for it."""
    user, group = (int(os.environ.get(name, "0")) for name in ("SUDO_UID", "SUDO_GID"))
    if os.geteuid() or not user:
        return
    for directory in directories:
        for path in (directory, *directory.rglob("*")):
            if path.lstat().st_uid == 0:
                os.lchown(path, user, group)
