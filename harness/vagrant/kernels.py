"""The kernels of the machines: the same that `pytest --kernel` boots, with more of their modules.

The cache keeps the few modules that a lab needs; a machine with disk and network needs others, of the same packages.
"""

from __future__ import annotations

import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from harness.errors import Unsupported
from harness.kernels.catalogue import with_unlisted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.kernels.indices import Package
    from harness.kernels.selection import Selection
    from harness.kernels.store import Stored

# The oldest and the newest of Debian's, and what is between them in wide use.
DEFAULT = ("5.10", "6.1", "6.12", "newest")
# Networking, the file systems of the machine, and the devices that QEMU and VirtualBox have; not other hardware.
WANTED = re.compile(
    r"""modules\.\w+(\.\w+)*
    |kernel/(arch|crypto|lib)/.*
    |kernel/net/(?!bluetooth|wireless|mac80211|mac802154|nfc|rxrpc|sunrpc|ceph|batman-adv|tipc|dccp|rds|smc|can|atm).*
    |kernel/drivers/net/[^/]*|kernel/drivers/net/(bonding|team|vxlan|ipvlan|netdevsim|wireguard|ethernet/intel/e1000)/.*
    |kernel/drivers/(block|virtio|vhost|ptp|pps|dca|acpi|rtc)/[^/]*|kernel/drivers/char/(hw_random/)?virtio[^/]*
    |kernel/fs/[^/]*|kernel/fs/(ext4|jbd2|overlayfs|fuse|9p|netfs|fscache|configfs|autofs)/.*""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class MachineKernel:
    """A kernel of the cache and the packages that it came from; the series is its machine's name without the k."""

    series: str
    stored: Stored
    packages: tuple[Package, ...]


def choose(words: Sequence[str], selection: Selection) -> list[MachineKernel]:
    """The kernels that somebody means, in the cache; BadInput, Unsupported.

    Unsupported as well if a kernel is in the cache alone: the archive that had its packages has them no more.
    """
    chosen = []
    for kernel in selection.choose(words):
        if not kernel.packages:
            raise Unsupported(
                f"{kernel.release} is in the cache, but no archive has its packages any more: "
                "`harness kernels list` shows those that can be had"
            )
        stored, packages = selection.fetch(kernel), with_unlisted(kernel, selection.archive).packages
        # Where the image is split, this part has the list of what is built in; --kernel does without.
        base = tuple(part for part in selection.archive.packages() if part.name == f"linux-base-{kernel.release}")
        chosen.append(MachineKernel(kernel.series, stored, (*packages, *base)))
    return chosen


def unpack(kernel: MachineKernel, selection: Selection, into: Path) -> None:
    """Write usr/lib/modules/RELEASE below `into`, out of the archive's packages.

    apt verifies them, as it did for the cache. Unsupported if they do not hold the very image that is there.
    """
    packages = into.with_name(f"{into.name}-{kernel.series}")
    packages.mkdir()
    seen = False
    for file in selection.archive.download(kernel.packages, packages):
        unpacking = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", file], stdout=subprocess.PIPE)
        assert unpacking.stdout is not None
        with unpacking:
            seen |= _unpack(unpacking.stdout, kernel, into)
        if unpacking.returncode:
            raise Unsupported(f"{file.name} of {kernel.stored.release}: dpkg-deb cannot unpack it")
        file.unlink()
    packages.rmdir()
    if not seen:
        raise Unsupported(
            f"{kernel.stored.release}: the archive's kernel is not the one of the cache; "
            f"remove {kernel.stored.image.parent} to bring it anew"
        )


def _unpack(stream: IO[bytes], kernel: MachineKernel, into: Path) -> bool:
    """Write the wanted modules; whether the package had the very image of the cache."""
    release, same = kernel.stored.release, False
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            if content is None:
                continue
            if re.match(r"vmlinuz(-|$)", Path(member.name).name):
                same |= content.read() == kernel.stored.image.read_bytes()
            path = re.search(rf"(?:^|/)lib/modules/{re.escape(release)}/(.*)", member.name)
            if path and WANTED.fullmatch(path[1]):
                target = into / "usr/lib/modules" / release / path[1]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())
    return same
