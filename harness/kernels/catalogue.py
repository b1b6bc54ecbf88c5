"""Which kernels can be had, and which of them somebody means by 6.12, >=6.12, newest or all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.version import Version

from harness.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.kernels.archive import Archive
    from harness.kernels.indices import Package

# linux-image-5.10.0-46-amd64, linux-image-6.12.117+deb13-amd64: not the cloud, real-time, debugging or unsigned ones,
# and not linux-image-6.12-amd64, which only points to the newest.
_IMAGE = re.compile(r"linux-image-(?P<release>\d{1,9}\.\d{1,9}\.\d{1,9}[\w.+~]*(?:-\d+|-0\.\w+\.\w+)?-amd64)")


@dataclass(frozen=True)
class Kernel:
    """A kernel of the archive.

    `release` is what `uname -r` will say, `version` the exact stable release ("5.10.262" of a 5.10.0-46), `packages`
    what it is made of, `missing` those parts that no index lists any more.
    """

    release: str
    version: str
    suite: str
    packages: tuple[Package, ...]
    missing: tuple[str, ...] = ()

    @property
    def series(self) -> str:
        """The first two numbers of the version."""
        return ".".join(self.version.split(".")[:2])

    @property
    def order(self) -> tuple[Version, tuple[int, ...]]:
        """What sorts kernels: the version, and Debian's numbers, to tell two builds of it apart."""
        return Version(self.version), tuple(int(number) for number in re.findall(r"\d+", self.release))

    @property
    def megabytes(self) -> int:
        """What has to be brought, as far as the index says."""
        return sum(package.size for package in self.packages) // 1_000_000


def kernels_of(packages: Iterable[Package]) -> list[Kernel]:
    """Every kernel that the packages make, oldest first."""
    by_name = {package.name: package for package in packages}
    kernels = []
    for name, image in by_name.items():
        match = _IMAGE.fullmatch(name)
        if match is None:
            continue
        parts = [part for part in image.depends if not part.startswith("linux-base-")]
        listed = tuple(by_name[part] for part in parts if part in by_name)
        missing = tuple(part for part in parts if part not in by_name)
        # Up to 6.18 the image is one package; later it only depends on its parts.
        version = re.sub(r"[-+~].*", "", image.version.rpartition(":")[2])
        if not re.fullmatch(r"\d{1,9}(?:\.\d{1,9}){1,3}", version):
            continue
        kernels.append(Kernel(match["release"], version, image.suite, listed if parts else (image,), missing))
    return sorted(kernels, key=lambda kernel: kernel.order)


def with_unlisted(kernel: Kernel, archive: Archive) -> Kernel:
    """The same with its missing parts taken from the archive's pool."""
    packages = (*kernel.packages, *(archive.unlisted(name, kernel.packages[0]) for name in kernel.missing))
    return Kernel(kernel.release, kernel.version, kernel.suite, packages, kernel.missing)


def newest_of_each_series(kernels: Iterable[Kernel]) -> list[Kernel]:
    """One kernel a series, oldest series first."""
    newest: dict[str, Kernel] = {}
    for kernel in sorted(kernels, key=lambda kernel: kernel.order):
        newest[kernel.series] = kernel
    return list(newest.values())


def choose(wanted: Sequence[str], kernels: Sequence[Kernel]) -> list[Kernel]:
    """What is meant by "6.12", "6.12.117", a full release, ">=6.12,<7.1", "newest" or "all"; each once, oldest first.

    BadInput, with what there is, for something that means none.
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    newest = newest_of_each_series(kernels)
    chosen: dict[str, Kernel] = {}
    for word in wanted:
        if word == "all":
            meant = newest
        elif word == "newest":
            meant = newest[-1:]
        elif word.startswith(("<", ">", "=", "!", "~")):
            try:
                meant = [kernel for kernel in newest if SpecifierSet(word).contains(kernel.version)]
            except (InvalidSpecifier, ValueError):  # of more digits than Python takes
                raise BadInput(f"--kernel {word!r} is not a range of versions; write it like '>=6.12,<7.1'") from None
        else:
            meant = [kernel for kernel in kernels if word in (kernel.release, kernel.version)][-1:]
            meant = meant or [kernel for kernel in newest if kernel.series == word]
        if not meant:
            there = ", ".join(kernel.series for kernel in newest) or "none"
            raise BadInput(
                f"no kernel is meant by {word!r}; there are {there}, and `harness kernels list --all` has every release"
            )
        chosen |= {kernel.release: kernel for kernel in meant}
    return sorted(chosen.values(), key=lambda kernel: kernel.order)
