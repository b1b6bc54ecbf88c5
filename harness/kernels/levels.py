"""How a machine comes to have collected a project: three processes, each a child of the one before.

The first has the libraries; the second has imported this package as well, with what its plugin needs; the third has the
project, and has collected it. None has seen anything of what a later one has. When a file of the project has changed,
the third ends with all that it started, the second takes what has changed, and makes another third. When this package
has changed, so that what the second has imported is old, the first makes another second.
"""

from __future__ import annotations

import dataclasses
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from harness.kernels.project import PACKAGE, packed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.kernels.machine import VirtualMachine
    from harness.kernels.project import File, Project

# pytest's exit codes of a collection without errors: some tests, or none.
COLLECTED = (0, 5)
# The scenarios that an installed package brings: a project like others.
SCENARIOS = PACKAGE / "bundled"
# Where pytest finds no test, no conftest file and no settings, and no project can be.
NOWHERE = "/run/nothing"


def path(project: Project | None = None) -> list[str]:
    """Where modules are to be found beside what the guest's interpreter knows by itself."""
    roots = [] if project is None else [str(project.root)]
    return [*roots, str(PACKAGE.parent), *(place for place in sys.path[1:] if place)]


def is_of_the_package(path: str) -> bool:
    """Whether a file of a project, by its path from the root, is this package's, and none of the scenarios in it."""
    file = Path("/", path)
    return file.is_relative_to(PACKAGE) and not file.is_relative_to(SCENARIOS)


def of_the_package(files: Mapping[str, File]) -> dict[str, File]:
    """Those of a project's files that are this package's."""
    return {path: file for path, file in files.items() if is_of_the_package(path)}


def without_the_package(files: Mapping[str, File]) -> dict[str, File]:
    """Those of a project's files that are not this package's."""
    return {path: file for path, file in files.items() if not is_of_the_package(path)}


def is_to_be_imported(project: Project | None) -> bool:
    """Whether the second process imports this package before the project is there.

    Not if the package's own assertions are not to be rewritten; nor where a distribution has an entry point of
    Hypothesis's: those are loaded when Hypothesis is imported, once, and what tests need may not be there by then.
    """
    return (project is None or project.rewritten) and not metadata.entry_points(group="hypothesis")


def deliver(machine: VirtualMachine, archive: bytes, **words: object) -> None:
    """Have a machine unpack an archive."""
    machine.tell(archive, do="deliver", bytes=len(archive), **words)
    machine.ready()


# From the first process to the second.


def equip(machine: VirtualMachine, project: Project | None = None, package: Mapping[str, File] | None = None) -> None:
    """Let a machine that has booted import this package, which is delivered if it is not part of the system.

    The project may be there already. If anything of it was imported now (a plugin that it has, a module with the name
    of a library), a change of it would not be noticed: then nothing is imported here, but each time that it collects.
    """
    if package:
        assert project is not None
        everything = dataclasses.replace(project, arguments=())
        deliver(machine, packed(everything.with_bytecode(package)), path=path())
    branch(machine)
    if not is_to_be_imported(project):
        return
    libraries = {sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    machine.tell(do="collect", argv=[], directory=NOWHERE, but=[str(PACKAGE), *sorted(libraries)])
    answer = machine.ready()
    of_the_project = project is not None and any(Path(file).is_relative_to(project.root) for file in answer.imported)
    if answer.code not in COLLECTED or of_the_project:
        back(machine)
        branch(machine)


# From the second to the third.


def bring(machine: VirtualMachine, project: Project, files: Mapping[str, File]) -> None:
    """Deliver files of the project, with what its tests need beside it."""
    if project.world is not None:
        deliver(machine, project.world.read_bytes(), path=path(project))
    deliver(machine, packed(project.with_bytecode(files)), path=path(project))


def collect(machine: VirtualMachine, project: Project) -> None:
    """Let pytest collect the project, in a process of its own."""
    branch(machine)
    machine.tell(do="collect", argv=list(project.arguments), directory=str(project.place))
    if machine.ready().code not in COLLECTED:
        # A module that could not be imported stays in sys.modules when pytest imports by importlib: whoever collects
        # there again finds it empty, and no error.
        back(machine)
        branch(machine)


# Back again, when something has changed.


def bring_changes(
    machine: VirtualMachine, project: Project, files: Mapping[str, File], known: Mapping[str, str]
) -> None:
    """Deliver what differs from the digests of the files that are there, to a process that has seen nothing of it."""
    changed, old = _difference(files, known)
    back(machine)
    if package := [path for path in old if is_of_the_package(path)]:
        equip_anew(machine, project, of_the_package(changed), package)
        changed, old = without_the_package(changed), [path for path in old if not is_of_the_package(path)]
    _forget(machine, old)
    deliver(machine, packed(project.with_bytecode(changed)), path=path(project))


def equip_anew(machine: VirtualMachine, project: Project, package: Mapping[str, File], old: Iterable[str]) -> None:
    """Put another second process in the place of this one: with these files of the package, without the old ones."""
    back(machine)
    _forget(machine, old)
    equip(machine, project, package)


def replace(machine: VirtualMachine, project: Project, files: Mapping[str, File], known: Mapping[str, str]) -> None:
    """The same for programs that are yet to start, and import everything themselves."""
    changed, old = _difference(files, known)
    back(machine)
    _forget(machine, old)
    deliver(machine, packed(project.with_bytecode(changed)), path=path(project))


def _difference(files: Mapping[str, File], known: Mapping[str, str]) -> tuple[dict[str, File], list[str]]:
    """The files that are not there as they are now, and the paths of those that have changed, come or gone."""
    changed = {path: file for path, file in files.items() if known.get(path) != file.digest}
    return changed, sorted({*changed, *known} - ({*files} - {*changed}))


def _forget(machine: VirtualMachine, paths: Iterable[str]) -> None:
    machine.tell(do="forget", files=[f"/{path}" for path in paths])
    machine.ready()


def branch(machine: VirtualMachine) -> None:
    """Go on in a child of the machine's process."""
    machine.tell(do="branch")
    machine.ready()


def back(machine: VirtualMachine) -> None:
    """End that child with all that it started; go on as it was before, but for files."""
    machine.tell(do="return")
    machine.ready()
