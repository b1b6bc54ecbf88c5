"""What tests import, and what the modules of their project import in turn: by the text of their files, nothing is run.

More may be found than is needed (an example in a docstring looks like an import), and a name that is put together while
a test runs is not found.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from harness.kernels.project import python_files

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

_IMPORT = re.compile(r"^[ \t]*(?:import[ \t]+([\w., \t]+)|from[ \t]+(\.*)([\w.]*)[ \t]+import\b)", re.MULTILINE)
_BY_NAME = re.compile(r"""\b(?:importorskip|import_module)\(\s*["'](\w+)""")
_PLUGINS = re.compile(r"""^pytest_plugins\b[^=\n]*=\s*(\[[^\]]*|\([^)]*|["'][\w.]+)""", re.MULTILINE)
CONFTEST = "conftest.py"


def of_text(text: str) -> Iterator[tuple[int, str]]:
    """The modules that a file imports: how many dots stand before the name, and the name's first part."""
    for several, dots, name in _IMPORT.findall(text):
        if several:
            yield from ((0, part.split()[0].partition(".")[0]) for part in several.split(",") if part.strip())
        else:
            yield len(dots), name.partition(".")[0]
    for name in _BY_NAME.findall(text):
        yield 0, name
    for listed in _PLUGINS.findall(text):
        yield from ((0, name) for name in re.findall(r"""["'](\w+)""", listed))


def of_others(tests: Iterable[Path], root: Path, path: Sequence[Path], known: Collection[str] = ()) -> set[str]:
    """The modules that tests need and that are not their project's, by the first part of their names.

    `tests` are files and directories below `root`, `path` are directories that the project's modules are imported from.
    Those that are `known` are left out, and those of the standard library.
    """
    search = _Search(root, path, known)
    for place in tests:
        search.add(python_files(place) if place.is_dir() else [place])
        below = (folder for folder in (place, *place.parents) if folder.is_relative_to(root))
        search.add(folder / CONFTEST for folder in below if (folder / CONFTEST).is_file())
    search.run()
    return search.others


class _Search:
    """Goes from file to file."""

    def __init__(self, root: Path, path: Sequence[Path], known: Collection[str]) -> None:
        self.others: set[str] = set()
        self._known = {*known, *sys.stdlib_module_names}
        self._root = root
        self._path = path
        self._todo: list[Path] = []
        self._seen: set[Path] = set()
        self._looked_up: set[tuple[Path, str]] = set()

    def add(self, files: Iterable[Path]) -> None:
        """Look at these, unless that has been done."""
        new = dict.fromkeys(file for file in files if file.suffix == ".py" and file not in self._seen)
        self._seen.update(new)
        self._todo += new

    def run(self) -> None:
        """Look at everything."""
        while self._todo:
            file = self._todo.pop()
            try:
                text = file.read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            for dots, name in of_text(text):
                if dots:
                    self._package(file, dots)
                elif name not in self._known and (file.parent, name) not in self._looked_up:
                    self._looked_up.add((file.parent, name))
                    self._module(name, [file.parent, *self._path])

    def _package(self, file: Path, dots: int) -> None:
        """A relative import: whatever stands in that package."""
        package = file.parents[min(dots, len(file.parents)) - 1]
        if package.is_relative_to(self._root):
            self.add(python_files(package))

    def _module(self, name: str, folders: Sequence[Path]) -> None:
        for folder in folders:
            if (folder / f"{name}.py").is_file():
                self.add([folder / f"{name}.py"])
                return
            if folder.is_relative_to(self._root) and any((folder / name).glob("*.py")):
                self.add(python_files(folder / name))
                return
        self.others.add(name)
