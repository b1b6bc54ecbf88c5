"""Kernels in packages of distributions, on disk: a .deb of Debian or Ubuntu, an .rpm of Fedora, RHEL or SUSE.

The image is in one package, its modules may be in others beside it:

    linux-image-6.12.117+deb13-amd64_….deb                      image and modules
    linux-image-unsigned-6.8.0-31-generic_….deb                 image; linux-modules-6.8.0-31-generic_….deb, …-extra-…
    kernel-core-6.11.4-301.fc41.x86_64.rpm                      image; kernel-modules-core-…, kernel-modules-…
    kernel-3.10.0-1160.el7.x86_64.rpm, kernel-default-….rpm     image and modules

A package is read as it streams by, and nothing is put where it says: what is kept of it has names of our own. What was
unpacked is kept in the cache, by the contents of the packages.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from harness import files, unpacking
from harness.errors import BadInput
from harness.kernels import modules, places, whole
from harness.kernels.bzimage import banner_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# How the two begin (ar(5); the lead of an RPM), and the program that makes a tar archive of their files.
DEB, RPM = b"!<arch>\n", b"\xed\xab\xee\xdb"
_IMAGE = re.compile(r"(?:^|/)(?:boot/vmlinuz-[^/]+|lib/modules/[^/]+/vmlinuz)$")
_CONFIG = re.compile(r"(?:^|/)(?:boot/config-(?P<boot>[^/]+)|lib/modules/(?P<modules>[^/]+)/config)$")
_MODULE = re.compile(r"(?:^|/)lib/modules/(?P<release>[^/]+)/(?:.*/)?(?P<name>[\w-]+)\.ko(?P<packed>\.(?:xz|zst|gz))?$")
# Where images are, for whoever has named another package.
_WHERE = (
    "the image is in linux-image-unsigned-… or linux-image-… (Ubuntu), linux-image-… or linux-binary-… (Debian), "
    "kernel-core-… (Fedora, RHEL), kernel-default-… (SUSE)"
)


@dataclass(frozen=True)
class Unpacked:
    """Where a package's kernel stands now: its image, and the directory with the modules that labs need."""

    image: Path
    modules: Path


def is_package(file: Path) -> bool:
    """Whether a file is a package, by how it begins."""
    try:
        with files.opened(file) as opened:
            return opened.read(len(DEB)).startswith((DEB, RPM))
    except OSError:
        return False


def unpack(package: Path, beside: Path | None = None) -> Unpacked:
    """The kernel of a package, unpacked to the cache unless it is there.

    Its modules come from the package itself and from those of the same version that stand beside it, or in the
    directory `beside`. BadInput if a package holds no kernel, is damaged, or is larger than any kernel is.
    """
    packages = [package, *_with_modules(package, beside or package.parent)]
    place = places.cache() / "packages"
    unpacked = place / _digest(packages)
    with places.writing(place, f"what is in {package.name}"):
        place.mkdir(parents=True, exist_ok=True)
        places.sweep()
        with _only_one(place):
            if not unpacked.exists() or not whole.is_whole(unpacked):
                with tempfile.TemporaryDirectory(prefix=".fetch-", dir=place) as temporary:
                    made = Path(temporary, "kernel")
                    _make(packages, made, Path(temporary, "all"))
                    whole.remember(made)
                    shutil.rmtree(unpacked, ignore_errors=True)
                    made.rename(unpacked)
    return Unpacked(unpacked / "image", unpacked / "modules")


def _with_modules(package: Path, directory: Path) -> list[Path]:
    """The packages with modules of the same version, by their names."""
    version = _version(package.name)
    return [
        file
        for file in sorted(directory.glob(f"*modules*{package.suffix}"))
        if file != package and (version is None or _version(file.name) == version) and is_package(file)
    ]


def _version(name: str) -> str | None:
    """Version and architecture: NAME_VERSION_ARCH.deb, NAME-VERSION-RELEASE.ARCH.rpm; None for another name."""
    if found := re.fullmatch(r"[^_]+_([^_]+_[^_]+)\.deb", name):
        return found[1]
    found = re.fullmatch(r".+-([^-]+-[^-]+)\.rpm", name)
    return found[1] if found else None


def _digest(packages: Sequence[Path]) -> str:
    total = hashlib.sha256(modules.WANTED.pattern.encode())
    for package in packages:
        with files.opened(package) as opened:
            total.update(hashlib.file_digest(opened, "sha256").digest())
    return total.hexdigest()[:24]


@contextlib.contextmanager
def _only_one(place: Path) -> Iterator[None]:
    """One process unpacks, others find it done; the lock is on the directory, so no file is left."""
    directory = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _make(packages: Sequence[Path], into: Path, everything: Path) -> None:
    """Put a kernel together: image, configuration, and the modules that labs need, uncompressed."""
    for directory in (into / "modules", everything):
        directory.mkdir(parents=True)
    sort_out(packages[0], into, everything)
    if not (into / "image").exists():
        raise BadInput(f"{packages[0]}: there is no kernel image in this package; {_WHERE}")
    release = banner_of(into / "image").partition(" ")[0]
    for package in packages[1:]:
        sort_out(package, into, everything)
    # Of another flavour of the same version, which may stand beside it, nothing is wanted.
    with contextlib.suppress(FileNotFoundError):
        (everything / f"{_folder(release)}.config").rename(into / "config")
    its_own = {modules.name_of(file): file for file in (everything / _folder(release)).glob("*")}
    modules.keep_wanted(its_own, into / "modules")


def _folder(release: str) -> str:
    """A name of our own for what a path calls a release."""
    return hashlib.sha256(release.encode(errors="surrogateescape")).hexdigest()[:24]


def sort_out(package: Path, into: Path, everything: Path) -> None:
    """Take what matters out of a package: the image to one directory, modules and configurations by release to another.

    BadInput if it is damaged, or larger than any kernel's package is.
    """
    for name, content in files_of(package):
        if _IMAGE.search(name) and not (into / "image").exists():
            unpacking.copy(content, into / "image", package)
        elif found := _CONFIG.search(name):
            unpacking.copy(content, everything / f"{_folder(found['boot'] or found['modules'])}.config", package)
        elif found := _MODULE.search(name):
            folder = everything / _folder(found["release"])
            folder.mkdir(exist_ok=True)
            unpacking.copy(content, folder / f"{found['name'].replace('-', '_')}.ko{found['packed'] or ''}", package)


def files_of(package: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The regular files of a package, by their paths in it; BadInput, MissingProgram."""
    with files.opened(package) as opened:
        if opened.read(len(DEB)) == DEB:
            return unpacking.members(package, ["dpkg-deb", "--fsys-tarfile", "-"], "dpkg")
    # libarchive knows RPMs, whatever they are compressed by; what stands behind @ is an archive.
    return unpacking.members(package, ["bsdtar", "-cf", "-", "--format=pax", "@-"], "libarchive-tools")
