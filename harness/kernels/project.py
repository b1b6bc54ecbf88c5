"""The files that pytest needs where its worker is: of the project, and of this package where it stands elsewhere."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of a project, in bytes: it has to fit into the guest's memory, twice.
LARGEST = 256 << 20
# Never part of a project.
LEFT_OUT = (
    *(".git", ".venv", "out", ".hypothesis", "node_modules", "__pycache__"),
    *(".pytest_cache", ".mypy_cache", ".ruff_cache"),
)
# This package, and the directory that it is imported from.
PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Project:
    """The files that pytest needs elsewhere, and what it is asked to collect there, in which directory of them."""

    root: Path
    arguments: tuple[str, ...] = ()
    directory: Path | None = None

    @property
    def place(self) -> Path:
        """Where pytest is started."""
        return self.directory if self.directory and self.directory.is_relative_to(self.root) else self.root

    def archive(self, below: Path = Path("/")) -> bytes:
        """A tar archive of the files below a directory, by their paths from there: the same files, the same bytes."""
        packed = io.BytesIO()
        size = 0
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for file in self._files():
                if not file.is_relative_to(below):
                    continue
                about = tarfile.TarInfo(str(file.relative_to(below)))
                content = file.read_bytes()
                size += len(content)
                if size > LARGEST:
                    raise BadInput(
                        f"{self.root}: a project of more than {LARGEST >> 20} MB cannot be delivered to a machine; "
                        "if it is not the project, name it: --rootdir DIRECTORY"
                    )
                about.size, about.mode = len(content), 0o755 if os.access(file, os.X_OK) else 0o644
                archive.addfile(about, io.BytesIO(content))
        return packed.getvalue()

    def _files(self) -> Iterator[Path]:
        listed = subprocess.run(
            ["git", "-C", self.root, "ls-files", "-coz", "--exclude-standard"], check=False, capture_output=True
        )
        if listed.returncode == 0:
            files = [self.root / os.fsdecode(name) for name in sorted(set(listed.stdout.split(b"\0")) - {b""})]
        else:
            files = sorted(
                file for file in self.root.rglob("*") if not set(file.relative_to(self.root).parts) & set(LEFT_OUT)
            )
        yield from (file for file in files if file.is_file())
        # An editable installation of this package: the image has only the pointer to it.
        if not PACKAGE.is_relative_to(self.root) and not PACKAGE.is_relative_to(sys.prefix):
            yield from (
                file for file in sorted(PACKAGE.rglob("*")) if file.is_file() and "__pycache__" not in file.parts
            )
