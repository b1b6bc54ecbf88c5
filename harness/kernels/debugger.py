"""gdb on a kernel in a virtual machine: QEMU's stub, the file with the kernel's symbols, and the words for gdb."""

from __future__ import annotations

import contextlib
import mmap
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness import files
from harness.kernels.bzimage import banner_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.kernels.mode import Mode
    from harness.kernels.store import Stored

# Where the packages of Debian with debugging symbols put it.
OF_PACKAGES = ("/usr/lib/debug/boot/vmlinux-{}", "/usr/lib/debug/lib/modules/{}/vmlinux")
# Symbols are where the file says only if the kernel is not put elsewhere at each boot.
AT_ITS_PLACE = "nokaslr"


@contextlib.contextmanager
def socket() -> Iterator[Path]:
    """The place of QEMU's stub, in a directory that nobody else can enter, for the time of the block."""
    with files.folder("harness-gdb-") as directory:
        yield directory / "gdb"


def mode(asked: Mode) -> Mode:
    """The mode of a machine whose kernel is where its symbols are."""
    if any(AT_ITS_PLACE in words.split() for words in asked.append):
        return asked
    return msgspec.structs.replace(asked, append=(*asked.append, AT_ITS_PLACE))


def vmlinux(kernel: Stored) -> tuple[Path | None, list[Path]]:
    """The file with a kernel's symbols, and those that are there but of another build.

    Beside the image, at the top of the tree that it was built in, or where Debian's packages put it.
    """
    image = kernel.image
    tree = image.parents[3] if image.match("arch/x86/boot/bzImage") else image.parent
    places = [tree / "vmlinux", image.parent / f"vmlinux-{kernel.release}"]
    places += [Path(place.format(kernel.release)) for place in OF_PACKAGES]
    others: list[Path] = []
    for place in dict.fromkeys(places):
        if place.is_file():
            if is_of(place, banner_of(image)):
                return place, others
            others.append(place)
    return None, others


def is_of(symbols: Path, banner: str) -> bool:
    """Whether a vmlinux is of the build that an image with this banner is, "6.12.1 (build@host) #1 SMP …"."""
    release, build = banner.partition(" ")[0], re.search(r"#\d.*", banner)
    if build is None or not symbols.stat().st_size:
        return False
    with symbols.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(f"Linux version {release} ".encode())
        while at >= 0:
            # "Linux version 6.12.1 (build@host) (gcc …) #1 SMP …\n"
            if build[0].strip().encode() in content[at : at + 1024]:
                return True
            at = content.find(f"Linux version {release} ".encode(), at + 1)
    return False


def advice(kernel: Stored, socket: Path) -> Iterator[str]:
    """How one comes to the machine with gdb."""
    symbols, others = vmlinux(kernel)
    for other in others:
        yield f"{other} is of another build than {kernel.image}, and is left alone"
    words = ["gdb", *([str(symbols)] if symbols else ["-ex", "set architecture i386:x86-64"])]
    yield shlex.join([*words, "-ex", f"target remote {socket}"])
    if symbols is None:
        yield (
            f"there is no vmlinux with the symbols of {kernel.release}: in a tree that is built it stands at the top; "
            f"on Debian: apt-get install linux-image-{kernel.release}-dbg"
        )
