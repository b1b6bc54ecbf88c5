"""Python distributions of this environment: which others each of them needs, and which files each consists of."""

from __future__ import annotations

import csv
import email
import importlib.util
import inspect
import os
import sysconfig
from functools import cache
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from email.message import Message

    from packaging.utils import NormalizedName

# How files of modules end, those that are compiled among them.
OF_MODULES = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)


def needed(
    roots: Mapping[str, Iterable[str]], without: Collection[str] = ()
) -> dict[NormalizedName, metadata.Distribution]:
    """Distributions and all that they require, as far as they are installed, by name; `roots` are names with extras.

    Nothing is there for the sake of those in `without`.
    """
    found: dict[NormalizedName, metadata.Distribution] = {}
    seen: set[tuple[NormalizedName, str]] = set()
    todo = [(canonicalize_name(name), extra) for name, extras in roots.items() for extra in ("", *extras)]
    while todo:
        name, extra = todo.pop()
        if name in without or (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        for requirement in _requirements(found[name]):
            if _applies(requirement, extra):
                other = canonicalize_name(requirement.name)
                todo += [(other, each) for each in ("", *requirement.extras)]
    return dict(sorted(found.items()))


def extras_in_use() -> dict[NormalizedName, set[str]]:
    """The extras of each distribution that some other one of this environment asks for."""
    asked: dict[NormalizedName, set[str]] = {}
    for distribution in metadata.distributions():
        for requirement in _requirements(distribution):
            asked.setdefault(canonicalize_name(requirement.name), set()).update(requirement.extras)
    return asked


def files_of(distribution: metadata.Distribution) -> Iterator[Path]:
    """The files that a distribution has installed, what says which it is (*.dist-info) among them.

    One that was put on the path without a list of its files has the modules that it names.
    """
    listed = distribution.files
    if listed is None:
        yield from _all_below(Path(distribution._path))  # type: ignore[attr-defined]  # noqa: SLF001
    for file in listed or ():
        path = Path(os.path.abspath(str(distribution.locate_file(file))))  # noqa: PTH100 - links stay as they are
        if "__pycache__" not in path.parts and path.is_file():
            yield path


def has_plugin(distribution: metadata.Distribution) -> bool:
    """Whether a distribution has a plugin of pytest: then pytest rewrites the assertions of all its modules."""
    return any(point.group == "pytest11" for point in distribution.entry_points)


def modules_of(distribution: metadata.Distribution) -> set[str]:
    """The names of a distribution's modules, as far as it says them: without what stands below."""
    said = (distribution.read_text("top_level.txt") or "").split()
    return {name.partition(".")[0] for name in (*said, *(point.module for point in distribution.entry_points))}


def module_files(name: str) -> tuple[Path, list[Path]] | None:
    """Where a module of the path stands, and its files; None for one that is built in, or that nobody has."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None or (not spec.has_location and not spec.submodule_search_locations):
        return None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if folders:
        return folders[0].parent, [file for folder in folders for file in _all_below(folder)]
    assert spec.origin is not None
    return Path(spec.origin).parent, [Path(spec.origin)]


@cache
def owners() -> Mapping[str, list[str]]:
    """The distributions that each module of the path is of, by the first part of its name.

    As metadata.packages_distributions() has it, which takes five times as long: it makes a path of each file. Modules
    that are compiled count, which it leaves out before Python 3.12.
    """
    found: dict[str, list[str]] = {}
    for distribution in metadata.distributions():
        for name in _top_level(distribution):
            found.setdefault(name, []).append(_headers(distribution)["Name"])
    return found


@cache
def standard_library() -> tuple[Path, ...]:
    """Where the interpreter's own modules are."""
    return tuple({Path(sysconfig.get_path(key)) for key in ("stdlib", "platstdlib")})


def record_of(distribution: metadata.Distribution) -> Path:
    """The file that changes when a distribution does: the list of its files, or the directory that says which it is."""
    about = Path(distribution._path)  # type: ignore[attr-defined]  # noqa: SLF001
    record = about / "RECORD"
    return record if record.exists() else about


def _all_below(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
        return
    for folder, folders, names in os.walk(place):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        yield from (Path(folder, name) for name in sorted(names))


def _top_level(distribution: metadata.Distribution) -> set[str]:
    """The names of a distribution's modules: as it says them, or as its files have them."""
    said = (distribution.read_text("top_level.txt") or "").split()
    if said:
        return set(said)
    listed = distribution.read_text("RECORD")
    if listed is None:
        files = [str(file) for file in distribution.files or ()]
    else:
        files = [line[0] for line in csv.reader(listed.splitlines()) if line]
    return {
        top if below else inspect.getmodulename(top) or ""
        for top, _, below in (file.partition("/") for file in files if file.endswith(OF_MODULES))
    }


def _headers(distribution: metadata.Distribution) -> Message | metadata.PackageMetadata:
    """What a distribution says of itself, but for its description."""
    text = distribution.read_text("METADATA")
    return distribution.metadata if text is None else _parsed(text.partition("\n\n")[0])


@cache
def _parsed(text: str) -> Message:
    return email.message_from_string(text)


def _requirements(distribution: metadata.Distribution) -> Iterator[Requirement]:
    is_described = distribution.read_text("METADATA") is not None
    lines = _headers(distribution).get_all("Requires-Dist") if is_described else distribution.requires
    return (found for line in lines or () if (found := _requirement(line)) is not None)


@cache
def _requirement(line: str) -> Requirement | None:
    try:
        return Requirement(line)
    except InvalidRequirement:  # of a distribution that is older than the rules
        return None


def _applies(requirement: Requirement, extra: str) -> bool:
    """Whether a requirement is one on this machine, with this extra ("": with none)."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})
