"""The kernel's source, of Debian's linux-source package, and a tree of objects that is built again and again."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import BadInput, HarnessError, MissingProgram

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.mutants.patches import Change

# A kernel that the claims have expectations for, and that Debian's stable and backports have the source of.
SERIES = "6.12"
PACKAGE = f"linux-source-{SERIES}"
CONFIG = Path(__file__).parent / "kernel.config"
# Programs that the build needs, and their packages; `.ci/install mutants` brings these.
PROGRAMS = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "gcc": "gcc",
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "patch": "patch",
    "xz": "xz-utils",
}
# objtool, a part of the build, is compiled against it.
HEADERS = {"/usr/include/libelf.h": "libelf-dev"}


class BuildFailed(HarnessError):
    """A kernel could not be built; the message has the compiler's errors."""


@dataclass(frozen=True)
class Tree:
    """Source and objects below a directory. `jobs` programs build at a time; processes that want to take turns.

    `options` are files with lines of a configuration; all that they do not name is off. Kernels of one source that are
    configured in other ways have a `variant` each, a word.
    """

    directory: Path
    jobs: int = 2
    options: tuple[Path, ...] = (CONFIG,)
    variant: str = ""

    @property
    def source(self) -> Path:
        """The source, as Debian has it."""
        return self.directory / PACKAGE

    @property
    def objects(self) -> Path:
        """What is built of it."""
        return self._own("object")

    @property
    def originals(self) -> Path:
        """Files of the source that a patch has changed, as they were: while one is applied, and no longer."""
        return self.directory / "originals"

    def _own(self, name: str) -> Path:
        return self.directory / "-".join([name, *([self.variant] if self.variant else [])])

    @property
    def is_unpacked(self) -> bool:
        """Whether the source is here."""
        return (self.source / "Makefile").exists()

    @cached_property
    def version(self) -> str:
        """6.12.117, of the source's own Makefile."""
        text = (self.source / "Makefile").read_text(encoding="utf-8")
        parts = re.findall(r"^(?:VERSION|PATCHLEVEL|SUBLEVEL) = (\d+)$", text, re.MULTILINE)[:3]
        return ".".join(parts)

    def prepare(self) -> None:
        """Source, configuration: whatever is missing. MissingProgram, BadInput where it cannot be had."""
        for program, package in PROGRAMS.items():
            if shutil.which(program) is None:
                raise MissingProgram(program, package)
        for header, package in HEADERS.items():
            if not Path(header).exists():
                raise MissingProgram(header, package)
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._alone():
            if not self.is_unpacked:
                self._unpack(self._package())
            self.restore()
            self._configure()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Another process that builds here is waited for: one builds while the other runs what is built."""
        with (self.directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def digest_of(self, change: Change | None) -> str:
        """What a kernel is made of: version, configuration, change."""
        changes = change.digest if change else ""
        options = "\n".join(line for line in self._options() if line.startswith("CONFIG_"))
        return hashlib.sha256(f"{self.version} {options} {changes}".encode()).hexdigest()[:16]

    def image(self, change: Change | None) -> Path:
        """Where the image with a change is kept, or that of the kernel as it is."""
        words = [change.name if change else "base", *([self.variant] if self.variant else []), self.digest_of(change)]
        return self.directory / "images" / f"{'-'.join(words)}.bzImage"

    def build(self, change: Change | None) -> Path:
        """The kernel with this change, or without any; built if it is not here. BuildFailed if it cannot be."""
        image = self.image(change)
        if not image.exists():
            with self._alone():
                if not image.exists():  # another process may have built it meanwhile
                    self._build(change, image)
        return image

    def _build(self, change: Change | None, image: Path) -> None:
        image.parent.mkdir(exist_ok=True)
        with self.applied(change) if change else contextlib.nullcontext():
            self._make("bzImage", change.name if change else "the kernel as it is")
            part = image.with_suffix(".part")
            shutil.copyfile(self.objects / "arch/x86/boot/bzImage", part)
        for old in image.parent.glob(f"{image.name.rpartition('-')[0]}-*.bzImage"):
            old.unlink()
        part.replace(image)

    def check(self, change: Change) -> str:
        """Why a patch does not apply to this source; empty if it does."""
        with self._alone():
            return self._refused(change)

    def _refused(self, change: Change) -> str:
        ran = self._patch(change, "--dry-run")
        return "" if ran.returncode == 0 else f"{change.name} does not apply to {PACKAGE} {self.version}: {ran.stdout}"

    @contextlib.contextmanager
    def applied(self, change: Change) -> Iterator[None]:
        """The source with a change, for a while. BuildFailed if the patch does not apply."""
        if wrong := self._refused(change):
            raise BuildFailed(wrong)
        for file in change.files:
            for path in (self.source / file, *(self.objects / compiled for compiled in _compiled(file))):
                _copy(path, self.originals / path.relative_to(self.directory))
        try:
            self._patch(change)
            yield
        finally:
            self.restore()

    def restore(self) -> None:
        """Put back what a patch has changed, also one of a process that was killed.

        What was compiled of it is put back as well, with a time that make takes for new: nothing is compiled twice, and
        the next kernel is linked with it.
        """
        for kept in _files(self.originals):
            _copy(self.originals / kept, self.directory / kept)
            if PACKAGE not in kept.parts:
                os.utime(self.directory / kept)
        shutil.rmtree(self.originals, ignore_errors=True)

    def _patch(self, change: Change, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["patch", "-p1", "--fuzz=0", "--batch", "--forward", "--no-backup-if-mismatch", "-r", "-", *words]
        return subprocess.run(
            command, cwd=self.source, input=change.changes, check=False, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def _package(self) -> Path:
        """The package's file, of whatever release this machine's apt has."""
        there = sorted(self.directory.glob(f"{PACKAGE}_*.deb"))
        if not there:
            ran = subprocess.run(
                ["apt-get", "-q", "download", PACKAGE], cwd=self.directory, check=False, capture_output=True, text=True
            )
            there = sorted(self.directory.glob(f"{PACKAGE}_*.deb"))
            if ran.returncode or not there:
                raise BadInput(
                    f"{PACKAGE} could not be fetched: {ran.stderr.strip()}; "
                    f"apt needs a suite that has it, or put its .deb into {self.directory}"
                )
        return there[-1]

    def _unpack(self, package: Path) -> None:
        packed = self.directory / "packed"
        subprocess.run(["dpkg-deb", "-x", package, packed], check=True)
        (archive,) = packed.glob(f"usr/src/{PACKAGE}.tar.xz")
        part = self.directory / "unpacking"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        subprocess.run(["tar", "-xf", archive, "-C", part], check=True)
        (part / PACKAGE).rename(self.source)
        shutil.rmtree(part)
        shutil.rmtree(packed)

    def _configure(self) -> None:
        """Our lines, and `no` for all else. BadInput where the source does not know a line any more."""
        written = self._own("configured")
        lines = self._options()
        state = "\n".join([self.version, *lines, ""])
        if (self.objects / ".config").exists() and written.exists() and written.read_text() == state:
            return
        self.objects.mkdir(exist_ok=True)
        asked = self._own("asked")
        asked.write_text("\n".join([*lines, ""]))
        self._make("allnoconfig", "the configuration", KCONFIG_ALLCONFIG=str(asked))
        configured = set((self.objects / ".config").read_text().splitlines())
        wanted = [line for line in lines if re.fullmatch(r"CONFIG_\w+=y", line)]
        if lacking := [line for line in wanted if line not in configured]:
            names = ", ".join(str(file) for file in self.options)
            raise BadInput(f"{names}: {PACKAGE} {self.version} does not take {', '.join(lacking)}")
        written.write_text(state)

    def _options(self) -> list[str]:
        return [line for file in self.options for line in file.read_text(encoding="utf-8").splitlines()]

    def _make(self, target: str, what: str, **variables: str) -> None:
        # The same bytes whoever builds it, and when.
        stamps = {"KBUILD_BUILD_TIMESTAMP": "1970-01-01", "KBUILD_BUILD_USER": "mutants", "KBUILD_BUILD_HOST": "here"}
        # Others may want the processor more.
        command: Sequence[str | Path] = [
            *("nice", "-n", "10", "make", "-s", f"-j{self.jobs}", "-C", self.source, f"O={self.objects}"), target,
        ]  # fmt: skip
        with subprocess.Popen(
            command, env=os.environ | stamps | variables, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as make:  # fmt: skip
            try:
                lines = make.communicate()[0].splitlines()
            except BaseException:
                # With all that it has started: none of them may write an object after the source was put back.
                os.killpg(make.pid, signal.SIGKILL)
                raise
        if make.returncode:
            said = [line for line in lines if re.search(r"error|undefined|No space", line)] or lines
            raise BuildFailed(f"{what} does not compile:\n" + "\n".join([*said[:10], *lines[-5:]]))


def _compiled(file: str) -> tuple[str, str]:
    """What the kernel's build makes of a source file: the object, and a note of the command and all headers."""
    name = Path(file).with_suffix(".o")
    return str(name), str(name.with_name(f".{name.name}.cmd"))


def _copy(source: Path, target: Path) -> None:
    """Copy a file with its time, if it is there."""
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def _files(directory: Path) -> list[Path]:
    """The files below a directory, by their paths from there."""
    return [file.relative_to(directory) for file in sorted(directory.rglob("*")) if file.is_file()]
