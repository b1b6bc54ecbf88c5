"""The kernels that are here: an image and the modules that labs need, in the user's cache or where the user says."""

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
from typing import TYPE_CHECKING

import msgspec

from harness import files, screen
from harness.errors import BadInput, Unsupported
from harness.kernels import modules, packages, places, whole
from harness.kernels.bzimage import banner_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.kernels.archive import Archive
    from harness.kernels.catalogue import Kernel

# What is in the cache was chosen by the pattern of its day.
_CHOSEN_BY = hashlib.sha256(modules.WANTED.pattern.encode()).hexdigest()[:12]


class CannotRun(BadInput):
    """A kernel lacks what every lab is made of; the message names the options."""


@dataclass(frozen=True)
class Stored:
    """A kernel that can be booted.

    `modules` are the files of the modules that labs need, uncompressed, by name. `enforce` asks the kernel to load only
    modules signed with its own key: for modules that nothing else vouches for.
    """

    release: str
    version: str
    image: Path
    modules: dict[str, Path]
    enforce: bool = False


class _About(msgspec.Struct):
    """What the cache keeps about a kernel; `chosen_by` says which modules were chosen."""

    release: str
    version: str
    enforce: bool
    chosen_by: str


def _coming(kernel: Kernel, into: Path) -> screen.Work:
    """How much of a kernel's packages has come: apt writes each to its place."""
    total = sum(package.size for package in kernel.packages)
    return screen.Work(
        kernel.release, lambda: (sum(file.stat().st_size for file in into.rglob("*") if file.is_file()), total), "bytes"
    )


def _absent(release: str, directory: Path) -> BadInput:
    return BadInput(f"kernel {release} is not in {directory}: harness kernels fetch {release}")


class Store:
    """The kernels of the user's cache, a directory each, named for the release."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def has(self, kernel: Kernel) -> bool:
        """Whether a kernel of the archive is here."""
        return self._about(self.directory / kernel.release) is not None

    def all(self) -> list[Stored]:
        """Every kernel that is here."""
        folders = (file.parent for file in sorted(self.directory.glob("*/kernel.json")))
        return [stored for folder in folders if (stored := self._load(folder)) is not None]

    def get(self, kernel: Kernel) -> Stored:
        """A kernel that is here; BadInput if it is not."""
        stored = self._load(self.directory / kernel.release)
        if stored is None:
            raise BadInput(
                f"kernel {kernel.release} is not in {self.directory}: harness kernels fetch {kernel.release}"
            )
        return stored

    def of_release(self, release: str) -> Stored:
        """A kernel that is here, by its release; BadInput if it is not."""
        for kernel in self.all():
            if kernel.release == release:
                return kernel
        raise _absent(release, self.directory)

    def fetch(self, kernel: Kernel, archive: Archive) -> Stored:
        """Bring a kernel, unless it is here. It appears whole or not at all."""
        if self.has(kernel):
            return self.get(kernel)
        from harness.kernels.catalogue import with_unlisted

        complete = with_unlisted(kernel, archive)
        with places.writing(self.directory, kernel.release):
            self.directory.mkdir(parents=True, exist_ok=True)
            places.sweep()
            with self._only_one():
                if not self.has(kernel):
                    self._bring(complete, archive)
        return self.get(kernel)

    def _bring(self, kernel: Kernel, archive: Archive) -> None:
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=self.directory) as temporary:
            brought, made, everything = (Path(temporary, name) for name in ("packages", "kernel", "modules"))
            for directory in (brought, made / "modules", everything):
                directory.mkdir(parents=True)
            with screen.following(_coming(kernel, brought)):
                files_of_it = archive.download(kernel.packages, brought)
            with screen.following(screen.Work(f"{kernel.release}: unpacking", lambda: (0, 0), "packages")):
                for package in files_of_it:
                    packages.sort_out(package, made, everything)
                    package.unlink()
                modules.keep_wanted({modules.name_of(file): file for file in everything.glob("*/*")}, made / "modules")
            if not (made / "image").exists():
                raise Unsupported(f"{kernel.release}: its packages hold no kernel image")
            release_of(made / "image")
            about = _About(kernel.release, kernel.version, bool(kernel.missing), _CHOSEN_BY)
            (made / "kernel.json").write_bytes(msgspec.json.encode(about))
            whole.remember(made)
            target = self.directory / kernel.release
            shutil.rmtree(target, ignore_errors=True)
            made.rename(target)

    @contextlib.contextmanager
    def _only_one(self) -> Iterator[None]:
        """One process brings kernels, others find them done; the lock is on the directory, so no file is left."""
        directory = os.open(self.directory, os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    @staticmethod
    def _about(directory: Path) -> _About | None:
        """What is kept about a kernel; None if that is gone, damaged, or of another choice of modules."""
        try:
            about = msgspec.json.decode((directory / "kernel.json").read_bytes(), type=_About)
        except (OSError, ValueError, RecursionError, msgspec.MsgspecError):
            return None
        is_it = about.chosen_by == _CHOSEN_BY and about.release == directory.name
        return about if is_it and whole.is_whole(directory) else None

    def _load(self, directory: Path) -> Stored | None:
        about = self._about(directory)
        if about is None:
            return None
        there = {file.stem: file for file in sorted((directory / "modules").glob("*.ko"))}
        return Stored(about.release, about.version, directory / "image", there, about.enforce)


def release_of(image: Path) -> tuple[str, str]:
    """The release that an image gives itself, which becomes the name of files, and its whole banner; BadInput."""
    banner = banner_of(image)
    return files.part(banner.partition(" ")[0], f"{image}: the release of this kernel"), banner


def built(image: Path, directory: Path | None = None) -> Stored:
    """A kernel that the user has: its image, and the directory below which its modules are.

    BadInput if the file is no kernel of this architecture, or the modules are another kernel's.
    """
    release, banner = release_of(image)
    there = {} if directory is None else modules.below(directory)
    for name, module in there.items():
        said = modules.modinfo(modules.content_of(module)).get("vermagic", [release])[0]
        vermagic = said.partition(" ")[0]
        if vermagic != release:
            raise BadInput(f"{directory}: module {name} is for {vermagic}, the kernel {image} is {release}")
    exact = re.search(r"Debian (\d+\.\d+\.\d+)", banner) or re.match(r"(\d+\.\d+(?:\.\d+)?)", release)
    if exact is None:
        raise BadInput(f"{image}: {release!r} is not a version")
    return Stored(release, exact[1], image.absolute(), there)


def cannot_run(kernel: Stored, lacks: Sequence[str]) -> str:
    """That scenarios cannot run on a kernel, for want of "veth (CONFIG_VETH)" or something else."""
    return (
        f"kernel {kernel.release} cannot run scenarios: it has no {' and no '.join(lacks)}; "
        "if these are modules, name the directory that has them: IMAGE,modules=DIRECTORY"
    )
