"""Debian packages whose files go into a guest: those that are installed here, and those that the machine's apt brings.

Packages that are brought are unpacked, and no more: no script of theirs runs, so there are no users, no services and no
links that those would have made.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import BadInput, MissingProgram
from harness.kernels import guest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

ENVIRONMENT = {"PATH": guest.PATH, "LC_ALL": "C"}
NAME = re.compile(r"[a-z0-9][a-z0-9.+-]+")
# Nothing that runs reads these.
UNREAD = re.compile(
    r"/usr/share/(doc|doc-base|man|info|locale|lintian|bash-completion|zsh|fish|bug|reportbug|icons|applications)(/|$)"
)
# What packages depend on for their scripts, or what every guest has of this machine: of these only what programs are
# linked with goes along.
SYSTEM = {
    *("libc6", "libc-bin", "base-files", "base-passwd", "bash", "dash", "coreutils", "dpkg", "debconf", "adduser"),
    *("passwd", "init-system-helpers", "lsb-base", "sysvinit-utils", "systemd", "systemd-sysv", "udev", "ucf"),
    *("install-info", "cdebconf", "mount", "util-linux", "login", "sensible-utils", "python3", "python3-minimal"),
}
# Where dpkg keeps what is installed: it changes whenever that does.
STATUS = Path("/var/lib/dpkg/status")
# Where what was brought stands, below the directory that it was brought to.
UNPACKED = "files"
_INST = re.compile(r"^Inst (\S+)(?: \[[^\]]*\])? \((\S+) ", re.MULTILINE)


def owner_of(file: Path) -> str | None:
    """The installed package that a file is of; None for one of no package, or where there is no dpkg."""
    for path in dict.fromkeys(_spellings(file)):
        listed = _run("dpkg-query", "-S", str(path))
        if listed is not None and listed.returncode == 0:
            return listed.stdout.partition(":")[0].partition(",")[0]
    return None


def _spellings(file: Path) -> Iterator[Path]:
    """The names that a file may have in a package: that of before /bin was a link to /usr/bin, too."""
    for path in (file, Path(os.path.realpath(file))):
        yield path
        if path.is_relative_to("/usr"):
            yield Path("/", path.relative_to("/usr"))


def files_of(package: str) -> list[Path]:
    """What an installed package has put here and a program may read, directories included."""
    listed = _run("dpkg-query", "-L", package)
    lines = listed.stdout.splitlines() if listed is not None and listed.returncode == 0 else []
    return [Path(line) for line in lines if line.startswith("/") and line != "/." and not UNREAD.match(line)]


@dataclass(frozen=True)
class Plan:
    """What of packages and their dependencies is not installed here, as (name, version), and what is, by name."""

    to_bring: tuple[tuple[str, str], ...]
    wanted: tuple[str, ...]


def plan(packages: Sequence[str]) -> Plan:
    """What apt would install for these packages. BadInput for one that it does not know, or cannot have."""
    for name in packages:
        if not NAME.fullmatch(name):
            raise BadInput(f"--guest-package {name}: not the name of a Debian package")
    words = ["-o", "Debug::NoLocking=1", "-q", "-s", "--no-install-recommends", "--no-remove", "install", "--"]
    tried = _run("apt-get", *words, *packages)
    if tried is None:
        raise MissingProgram("apt-get", "apt")
    if tried.returncode:
        raise BadInput(f"--guest-package {' '.join(packages)}: {_said(tried.stderr + tried.stdout)}")
    return Plan(tuple(sorted(_INST.findall(tried.stdout))), tuple(sorted(set(packages))))


def state() -> list[tuple[str, int]]:
    """What apt's answer depends on: what is installed, what the archive has, how apt is told to choose."""
    places = (STATUS, Path("/var/lib/apt/lists"), Path("/etc/apt"), *sorted(Path("/etc/apt").glob("*")))
    return [(str(place), place.stat().st_mtime_ns) for place in places if place.exists()]


def bring(brought: Plan, into: Path) -> list[Path]:
    """Download what is not installed and unpack it below a directory; the packages' files.

    apt checks them against the index that the archive has signed. BadInput if one does not come.
    """
    if not brought.to_bring:
        return []
    names = [f"{name}={version}" for name, version in brought.to_bring]
    # As root apt would change to another user, who cannot write here.
    options = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
    archives = into / "archives"
    archives.mkdir()
    downloaded = _run("apt-get", "-q", *options, "download", "--", *names, cwd=archives)
    if downloaded is None or downloaded.returncode:
        said = _said(downloaded.stderr) if downloaded is not None else "apt-get is not there"
        raise BadInput(f"--guest-package {' '.join(brought.wanted)}: {said}")
    files = sorted(archives.glob("*.deb"))
    for file in files:
        unpacked = _run("dpkg-deb", "-x", str(file), str(into / UNPACKED))
        if unpacked is None or unpacked.returncode:
            said = _said(unpacked.stderr if unpacked else "")
            raise BadInput(f"--guest-package: {file.name} cannot be unpacked: {said}")
    return files


def installed_needs(brought: Plan, archives: Iterable[Path]) -> list[str]:
    """The installed packages whose files the packages of a plan need, themselves included where they are installed."""
    new = {name for name, _ in brought.to_bring}
    todo = [dependency for archive in archives for dependency in _names(_field(archive))]
    return needs_of([*todo, *(name for name in brought.wanted if name not in new)], but=new)


def needs_of(names: Iterable[str], but: Collection[str] = ()) -> list[str]:
    """The installed packages of these names, and those that they depend on, `but` some."""
    todo = list(names)
    installed = _installed() if todo else {}
    provided = {name: package for package, (provides, _) in installed.items() for name in (package, *provides)}
    found: dict[str, None] = {}
    while todo:
        package = provided.get(todo.pop())
        if package is not None and package not in found and package not in but and package not in SYSTEM:
            found[package] = None
            todo += installed[package][1]
    return sorted(found)


def _installed() -> dict[str, tuple[list[str], list[str]]]:
    """What each installed package provides, and the names of all that it depends on."""
    form = "${db:Status-Status}\t${Package}\t${Provides}\t${Pre-Depends}, ${Depends}\n"
    listed = _run("dpkg-query", "-W", f"-f={form}")
    packages: dict[str, tuple[list[str], list[str]]] = {}
    for line in listed.stdout.splitlines() if listed is not None else ():
        status, name, provides, depends = line.split("\t")
        if status == "installed":
            packages[name] = list(_names(provides)), list(_names(depends))
    return packages


def _field(archive: Path) -> str:
    fields = _run("dpkg-deb", "-f", str(archive), "Pre-Depends", "Depends")
    lines = fields.stdout.splitlines() if fields is not None else []
    return ", ".join(line.partition(": ")[2] for line in lines)


def _names(depends: str) -> Iterator[str]:
    """The names in a field of relations: alternatives too, of which those that are not installed lead nowhere."""
    for relation in re.split(r"[,|]", depends):
        if found := re.match(r"\s*([a-z0-9][a-z0-9.+-]+)", relation):
            yield found[1]


def _said(text: str) -> str:
    """What apt said went wrong, in a line."""
    lines = [line.removeprefix("E: ") for line in text.splitlines() if line.startswith("E: ")]
    return "; ".join(lines[:2]) or " ".join(text.split())[:300] or "apt-get fails"


def _run(program: str, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str] | None:
    """What a program of Debian's says; None where it is not there."""
    path = shutil.which(program, path=ENVIRONMENT["PATH"])
    if path is None:
        return None
    return subprocess.run(
        [path, *words], check=False, cwd=cwd, env=os.environ | ENVIRONMENT, stdin=subprocess.DEVNULL,
        capture_output=True, text=True,
    )  # fmt: skip
