"""What tests need in a guest beside their project, of the environment outside: one archive, delivered with the project.

Plugins of pytest and what they require, the distributions that tests import, programs with what they read, Debian
packages. All of it stands at the paths that it has outside. What guests have anyway is left out.
"""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import tempfile
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import msgspec
from packaging.utils import canonicalize_name

from harness.errors import BadInput
from harness.kernels import bytecode, debian, distributions, image, places

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from packaging.utils import NormalizedName

# In bytes: it has to fit into the guest's memory beside everything else.
LARGEST = 768 << 20
# What a program of this machine may read that is of no package of its own: certificates, and how names are looked up.
READ_BY_PROGRAMS = ("/etc/ssl/openssl.cnf", "/etc/host.conf", "/etc/gai.conf", "/etc/nsswitch.conf")
CERTIFICATES = ("/etc/ssl/certs", "/usr/lib/ssl")
# What a script of a shell starts without a thought: guests have few of these.
SHELLS = ("sh", "dash", "bash")
SHELL_TOOLS = ("coreutils", "sed", "grep", "findutils", "mawk", "gawk")
# Accounts below this number are the system's: programs change to them.
ORDINARY_USERS = 1000


@dataclass(frozen=True)
class Wishes:
    """What is wanted beside a project.

    `plugins` are distributions with plugins of pytest, `modules` the first parts of names that tests import, `programs`
    and `packages` what the user names. `root` is the project, whose own files come with it.
    """

    root: Path
    plugins: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()
    programs: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


@dataclass
class _Parts:
    """What was found for the wishes, before anything is read: whatever is not there is named now."""

    distributions: list[metadata.Distribution] = field(default_factory=list)
    modules: list[Path] = field(default_factory=list)
    programs: list[Path] = field(default_factory=list)
    plan: debian.Plan | None = None

    def looks(self) -> str:
        """What tells these parts from others that have changed since."""
        total = hashlib.sha256()
        own = [Path(__file__), *(Path(str(module.__file__)) for module in (bytecode, debian, image))]
        records = [file for distribution in self.distributions for file in distributions.files_of(distribution)]
        dpkg = [debian.STATUS] if (self.programs or self.plan) and debian.STATUS.exists() else []
        for path in (*own, *records, *self.modules, *self.programs, *dpkg):
            about = path.stat()
            total.update(f"{path} {os.path.realpath(path)} {about.st_size} {about.st_mtime_ns}\n".encode())
        total.update(repr(self.plan).encode())
        return total.hexdigest()[:24]


def gather(wishes: Wishes) -> Path | None:
    """The archive of what is wished, in the cache; None where guests have it all.

    BadInput for what is not here and cannot be brought, or is too large.
    """
    parts = _find(wishes)
    if not (parts.distributions or parts.modules or parts.programs or parts.plan):
        return None
    place = places.worlds()
    remembered = place / f"{parts.looks()}.json"
    try:
        name, size = msgspec.json.decode(remembered.read_bytes(), type=tuple[str, int])
        if (place / name).stat().st_size == size:
            os.utime(place / name)
            return place / name
    except (OSError, ValueError):
        pass
    with places.writing(place, "what tests need beside their project"):
        archive = _make(parts, place)
        image.write(remembered, [msgspec.json.encode((archive.name, archive.stat().st_size))])
    return archive


# What there is.


def _find(wishes: Wishes) -> _Parts:
    parts = _Parts()
    roots, elsewhere = _owners(wishes)
    in_guests = image.needed()
    extras = distributions.extras_in_use() if {*map(canonicalize_name, roots)} - {*in_guests} else {}
    needed = distributions.needed({name: extras.get(canonicalize_name(name), ()) for name in sorted(roots)})
    parts.distributions = [found for name, found in needed.items() if name not in in_guests]
    parts.distributions += _of_project(wishes.root, {*in_guests, *needed})
    modules = dict.fromkeys(elsewhere)
    for distribution in parts.distributions:
        if not any(file.suffix in (".py", ".so") for file in distributions.files_of(distribution)):
            modules |= dict.fromkeys(distributions.modules_of(distribution))
    parts.modules = [file for name in modules for file in _module(name, wishes.root)]
    parts.programs = [_program(name) for name in wishes.programs]
    parts.plan = _plan(wishes.packages) if wishes.packages else None
    return parts


def _plan(packages: tuple[str, ...]) -> debian.Plan:
    """What apt would do, as it was the last time: as long as it knows the same, it would do the same, after seconds."""
    known = hashlib.sha256(repr((packages, debian.state())).encode()).hexdigest()[:24]
    remembered = places.worlds() / f"{known}.plan"
    try:
        return msgspec.json.decode(remembered.read_bytes(), type=debian.Plan)
    except (OSError, msgspec.MsgspecError):
        made = debian.plan(packages)
        with places.writing(remembered.parent, "what packages need"):
            image.write(remembered, [msgspec.json.encode(made)])
        return made


def _owners(wishes: Wishes) -> tuple[set[str], list[str]]:
    """The distributions that are wished, and the modules that are of none."""
    names, elsewhere = set(wishes.plugins), []
    owners = distributions.owners() if wishes.modules else {}
    for module in sorted(wishes.modules):
        if module in owners:
            names.update(owners[module])
        else:
            elsewhere.append(module)
    return names, elsewhere


def _of_project(root: Path, known: Iterable[NormalizedName]) -> list[metadata.Distribution]:
    """Distributions that are installed from the project itself: what says so, for its files come with it."""
    return [
        distribution
        for distribution in metadata.distributions()
        if canonicalize_name(distribution.name) not in known and _stands_in(distribution, root)
    ]


def _stands_in(distribution: metadata.Distribution, root: Path) -> bool:
    """Whether a distribution was installed to be used where it is written (PEP 610), below a directory."""
    told = distribution.read_text("direct_url.json")
    url = urlsplit(msgspec.json.decode(told)["url"]) if told else None
    return url is not None and url.scheme == "file" and Path(unquote(url.path)).is_relative_to(root)


def _module(name: str, root: Path) -> list[Path]:
    """The files of a module that is on the path, neither of the project nor of the standard library."""
    found = distributions.module_files(name)
    if found is None:
        return []
    place, files = found
    if place.is_relative_to(root) or any(place.is_relative_to(own) for own in distributions.standard_library()):
        return []
    return files


def _program(name: str) -> Path:
    found = image.where(name)
    if found is None:
        raise BadInput(
            f"--guest-program {name}: it is not installed here, and only what is here can be brought to the machines; "
            "--guest-package NAME brings a package of Debian that is not installed"
        )
    return Path(found)


# What is made of it.


def _make(parts: _Parts, place: Path) -> Path:
    """The archive, named by what is in it."""
    with tempfile.TemporaryDirectory() as temporary:
        tree, sizes = image.Tree(), {}
        for name, files, by_pytest in _python(parts):
            before = tree.size()
            for file in files:
                image.python_file(tree, file, by_pytest=by_pytest)
            sizes[name] = tree.size() - before
        before = tree.size()
        _add_programs(tree, parts, Path(temporary))
        sizes["programs and packages"] = tree.size() - before
        image.add_libraries(tree, below=Path(temporary))
        if tree.size() > LARGEST:
            raise BadInput(_too_large(tree.size(), sizes))
        archive = place / f"{tree.digest()}.tar"
        image.write(archive, tree.tar())
    return archive


def _python(parts: _Parts) -> Iterator[tuple[str, Iterable[Path], bool]]:
    for distribution in parts.distributions:
        yield distribution.name, distributions.files_of(distribution), distributions.has_plugin(distribution)
    yield "modules", parts.modules, False


def _too_large(size: int, sizes: dict[str, int]) -> str:
    largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
    listed = ", ".join(f"{name} ({sizes[name] >> 20} MB)" for name in largest)
    return (
        f"what the tests need beside their project has {size >> 20} MB, and no more than {LARGEST >> 20} MB can be "
        f"delivered to a machine: {listed}; a plugin that they do not need is left out by -p no:NAME"
    )


def _add_programs(tree: image.Tree, parts: _Parts, temporary: Path) -> None:
    """Programs with what their packages depend on, and packages; what has yet to come is brought to a directory."""
    owners = {owner for program in parts.programs for owner in _add_program(tree, program)}
    for package in debian.needs_of(owners):
        _add_package(tree, package)
    if parts.plan is not None:
        archives = debian.bring(parts.plan, temporary)
        staged = temporary / debian.UNPACKED
        for file in sorted(staged.rglob("*")):
            _add(tree, Path("/", file.relative_to(staged)), file)
        for package in debian.installed_needs(parts.plan, archives):
            _add_package(tree, package)
    if parts.programs or parts.plan:
        for path in (*map(Path, READ_BY_PROGRAMS), *(file for place in CERTIFICATES for file in Path(place).glob("*"))):
            _add(tree, path, path)
        _add_accounts(tree)


def _add_program(tree: image.Tree, program: Path) -> set[str]:
    """A program, and the interpreter of a script; the packages that they are of, and what a shell's scripts start."""
    owners: set[str] = set()
    while True:
        _add(tree, program, program)
        package = debian.owner_of(program)
        owners |= {package} if package is not None else set()
        with program.open("rb") as opened:
            line = opened.readline(256)
        words = os.fsdecode(line[2:]).split() if line.startswith(b"#!") else []
        # "#!/usr/bin/env NAME" finds the interpreter by its name.
        name = words[1] if len(words) > 1 and words[0].endswith("/env") else "".join(words[:1])
        found = image.where(name) if name else None
        if found is None or Path(found) == program:
            return owners
        if Path(found).resolve().name in SHELLS:
            for tool in SHELL_TOOLS:
                _add_package(tree, tool)
        program = Path(found)


def _add_package(tree: image.Tree, package: str) -> None:
    for path in debian.files_of(package):
        _add(tree, path, path)


def _add(tree: image.Tree, path: Path, content: Path) -> None:
    """What stands at a path; directories are made where files of theirs come, and where programs write."""
    if debian.UNREAD.match(str(path)):
        return
    if content.is_dir() and not content.is_symlink():
        if path.parts[1:2] in (("var",), ("etc",)):
            tree.directory(str(path))
    elif os.access(content, os.R_OK) or content.is_symlink():
        tree.copy(path, content)


def _add_accounts(tree: image.Tree) -> None:
    """The accounts that guests have, and those of this machine's system, which programs change to."""
    known = {line.partition(":")[0] for line in (image.PASSWD + image.GROUP).splitlines()}
    users = "".join(
        f"{user.pw_name}:x:{user.pw_uid}:{user.pw_gid}::{user.pw_dir}:{user.pw_shell}\n"
        for user in pwd.getpwall()
        if 0 < user.pw_uid < ORDINARY_USERS and user.pw_name not in known
    )
    groups = "".join(
        f"{group.gr_name}:x:{group.gr_gid}:{','.join(group.gr_mem)}\n"
        for group in grp.getgrall()
        if 0 < group.gr_gid < ORDINARY_USERS and group.gr_name not in known
    )
    tree.text("etc/passwd", image.PASSWD + users)
    tree.text("etc/group", image.GROUP + groups)
