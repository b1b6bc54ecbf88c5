"""The files that pytest needs where its worker is: of the project, and of this package where it stands elsewhere."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import BadInput
from harness.kernels import bytecode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

# Of a project, in bytes: it has to fit into the guest's memory.
LARGEST = 256 << 20
# Of what is compiled outside, in bytes: some five seconds on the way.
MOST_BYTECODE = 16 << 20
# Never part of a project, unless git has them.
LEFT_OUT = frozenset(
    {".git", ".venv", "out", ".hypothesis", "node_modules", "__pycache__"}
    | {".pytest_cache", ".mypy_cache", ".ruff_cache"}
)
# What makes a directory a virtual environment.
ENVIRONMENT = "pyvenv.cfg"
# This package, and the directory that it is imported from.
PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class File:
    """A file of a project: its content, and who may do what with it."""

    content: bytes
    mode: int

    @property
    def digest(self) -> str:
        """What tells it from another one."""
        return hashlib.sha256(b"%o " % self.mode + self.content).hexdigest()[:32]


@dataclass(frozen=True)
class Project:
    """The files that pytest needs elsewhere, and what it is asked to collect there, in which directory of them.

    `written` are files and directories that the run itself writes, and no part of it. `world` is an archive of what the
    tests need beside it (harness.kernels.world). `rewritten`: pytest rewrites assertions as it does by default.
    """

    root: Path
    arguments: tuple[str, ...] = ()
    directory: Path | None = None
    written: tuple[Path, ...] = ()
    world: Path | None = None
    rewritten: bool = True

    @property
    def place(self) -> Path:
        """Where pytest is started."""
        return self.directory if self.directory and self.directory.is_relative_to(self.root) else self.root

    def archive(self, below: Path = Path("/")) -> bytes:
        """A tar archive of the files below a directory, by their paths from there: the same files, the same bytes."""
        return packed(self.files(below))

    def files(self, below: Path = Path("/")) -> dict[str, File]:
        """The files below a directory, by their paths from there; BadInput if they are too large to be delivered."""
        found: dict[str, File] = {}
        size = 0
        for path in self._files():
            if not path.is_relative_to(below):
                continue
            file = File(path.read_bytes(), 0o755 if os.access(path, os.X_OK) else 0o644)
            size += len(file.content)
            if size > LARGEST:
                raise BadInput(
                    f"{self.root}: a project of more than {LARGEST >> 20} MB cannot be delivered to a machine; "
                    "if it is not the project, name it: --rootdir DIRECTORY"
                )
            found[str(path.relative_to(below))] = file
        return found

    def with_bytecode(self, files: Mapping[str, File]) -> dict[str, File]:
        """Files of the project by their paths from the root, and of what is Python source the compiled form as well.

        For a machine with this very interpreter, which takes the compiled form as long as the source is what it was.
        Up to MOST_BYTECODE, tests first: all of it has to go through a slow port.
        """
        chosen = [Path(os.path.normpath(self.place / argument.partition("::")[0])) for argument in self.arguments]
        sources = [path for path in (Path("/", name) for name in files) if path.suffix == ".py"]
        tests = {path for path in sources if self.rewritten and by_pytest(path, chosen)}
        found, size = dict(files), 0
        for path in sorted(sources, key=lambda path: (path not in tests, path)):
            if path in tests:
                made = bytecode.rewritten(str(path))
            else:
                content = bytecode.compiled(files[str(path)[1:]].content, str(path), is_checked=True)
                made = None if content is None else (bytecode.place_of(str(path)), content)
            if made:
                size += len(made[1])
                if size > MOST_BYTECODE:
                    break
                found.setdefault(made[0][1:], File(made[1], 0o644))
        return found

    def _files(self) -> Iterator[Path]:
        tracked = self._git("ls-files", "-cz")
        if tracked is None:
            files = set(all_files(self.root))
        else:
            files = set(tracked) | self._own(self._git("ls-files", "-oz", "--exclude-standard") or ())
        yield from (file for file in sorted(files) if file.is_file() and not self._is_written(file))
        # An editable installation of this package: the image has only the pointer to it.
        if not PACKAGE.is_relative_to(self.root) and not is_in_image():
            yield from (
                file for file in sorted(PACKAGE.rglob("*")) if file.is_file() and "__pycache__" not in file.parts
            )

    def _own(self, untracked: Iterable[Path]) -> set[Path]:
        """Those of the files that git does not have which are the project's, for all that git says."""
        left_out: dict[Path, bool] = {self.root: False}

        def is_left_out(folder: Path) -> bool:
            if folder not in left_out:
                left_out[folder] = is_no_part(folder) or is_left_out(folder.parent)
            return left_out[folder]

        return {file for file in untracked if not is_left_out(file.parent)}

    def _is_written(self, file: Path) -> bool:
        return any(file.is_relative_to(place) for place in self.written)

    def _git(self, *words: str) -> list[Path] | None:
        """The files that git names; None where there is no repository."""
        try:
            listed = subprocess.run(["git", "-C", self.root, *words], check=False, capture_output=True)
        except FileNotFoundError:
            return None
        if listed.returncode:
            return None
        return [self.root / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]


@cache
def is_in_image() -> bool:
    """Whether the system of each machine has this package: it is installed, and not a directory that is worked in."""
    # Whoever imports the plugin has no machine yet.
    from importlib import metadata

    from harness.kernels import distributions

    try:
        return PACKAGE / "__init__.py" in distributions.files_of(metadata.distribution("tcp-harness"))
    except metadata.PackageNotFoundError:
        return False


def by_pytest(path: Path, chosen: Sequence[Path]) -> bool:
    """Whether pytest imports a file as it does tests, when it collects what was chosen; without any, everything.

    As far as names tell; what else it takes for tests it compiles in the machine.
    """
    if path.name == "conftest.py" or path.is_relative_to(PACKAGE / "plugin") or path in chosen:
        return True
    is_test = path.name.startswith("test_") or path.name.endswith("_test.py")
    return is_test and any(path.is_relative_to(each) for each in chosen or [Path("/")])


def packed(files: Mapping[str, File]) -> bytes:
    """A tar archive of files."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, file in files.items():
            about = tarfile.TarInfo(path)
            about.size, about.mode = len(file.content), file.mode
            tar.addfile(about, io.BytesIO(file.content))
    return archive.getvalue()


def is_no_part(folder: Path) -> bool:
    """Whether a directory is no part of any project: made by a run, or a virtual environment."""
    return folder.name in LEFT_OUT or (folder / ENVIRONMENT).is_file()


def all_files(directory: Path) -> Iterator[Path]:
    """The files below a directory that may be a project's."""
    for folder, folders, names in os.walk(directory):
        folders[:] = sorted(name for name in folders if not is_no_part(Path(folder, name)))
        yield from (Path(folder, name) for name in sorted(names))


def python_files(directory: Path) -> Iterator[Path]:
    """Those of them that are Python."""
    return (file for file in all_files(directory) if file.suffix == ".py")
