"""The kernels of the machines: the same that `pytest --tcp-kernel` boots, with more of their modules.

The cache keeps the few modules that a lab needs; a machine with disk and network needs others, of the same packages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness import files, unpacking
from harness.errors import Unsupported
from harness.kernels import packages as package_files

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
        if kernel.missing:
            raise Unsupported(
                f"{kernel.release}: the archive's index has no more all that it is made of "
                f"({', '.join(kernel.missing)}), and for what is left of it nobody vouches, who would be root here: "
                "take another release, `harness kernels list --all` shows them"
            )
        stored, packages = selection.fetch(kernel), kernel.packages
        # Where the image is split, this part has the list of what is built in; --kernel does without.
        base = tuple(part for part in selection.archive.packages() if part.name == f"linux-base-{kernel.release}")
        chosen.append(MachineKernel(kernel.series, stored, (*packages, *base)))
    return chosen


def unpack(kernel: MachineKernel, selection: Selection, into: Path) -> None:
    """Write usr/lib/modules/RELEASE below `into`, out of the archive's packages.

    apt verifies them, as it did for the cache. Unsupported if they do not hold the very image that is there, BadInput
    for one that is damaged, or has names that lead out of it.
    """
    packages = into.with_name(f"{into.name}-{files.part(kernel.series, 'a series')}")
    packages.mkdir()
    seen = False
    for file in selection.archive.download(kernel.packages, packages):
        seen |= _unpack(file, kernel, into)
        file.unlink()
    packages.rmdir()
    if not seen:
        raise Unsupported(
            f"{kernel.stored.release}: the archive's kernel is not the one of the cache; "
            f"remove {kernel.stored.image.parent} to bring it anew"
        )


def _unpack(package: Path, kernel: MachineKernel, into: Path) -> bool:
    """Write the wanted modules; whether the package had the very image of the cache."""
    release, same = files.part(kernel.stored.release, "a release"), False
    image = kernel.stored.image.read_bytes()
    for name, content in package_files.files_of(package):
        if re.match(r"vmlinuz(-|$)", Path(name).name):
            same |= content.read(len(image) + 1) == image
        path = re.search(rf"(?:^|/)lib/modules/{re.escape(release)}/(.*)", name, re.DOTALL)
        if path and WANTED.fullmatch(path[1]):
            target = files.below(into / "usr/lib/modules" / release, path[1], package.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            unpacking.copy(content, target, package)
    return same
