"""Debian's archive, by way of apt: which kernels it has, and their packages, verified.

apt does the work: it knows the machine's mirror and proxy, checks signatures with the archive's keyring and the hashes
of what it brings. Its state, cache and sources are of our own, below our cache directory, so that nothing of the
machine's apt is touched, nothing is installed, and no root is needed.
"""

from __future__ import annotations

import fcntl
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import BadInput, MissingProgram, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Where each suite is: the archive itself, or the one for security updates.
SUITES = {
    "Debian": (
        *("bullseye", "bookworm", "trixie", "forky", "sid", "experimental"),
        *("bullseye-backports", "bookworm-backports", "trixie-backports"),
    ),
    "Debian-Security": ("bullseye-security", "bookworm-security", "trixie-security"),
}
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
FRESH = 24 * 3600.0
_WANTED = re.compile(r"Package: linux-(?:image|binary|modules|base)-\d")


@dataclass(frozen=True)
class Source:
    """A repository: its address and one suite of it."""

    uri: str
    suite: str


@dataclass(frozen=True)
class Package:
    """A binary package of a suite, of which other parts of the kernel it depends on, and its size in bytes.

    `address` is that of a package which no index lists any more while the archive's pool still has it: nothing vouches
    for what it brings.
    """

    name: str
    version: str
    suite: str
    depends: tuple[str, ...] = ()
    size: int = 0
    address: str | None = None


class Archive:
    """What apt can bring from the given sources; `directory` is where it keeps what it knows of them."""

    def __init__(
        self, directory: Path, sources: Sequence[Source], *, keyring: str = KEYRING, architecture: str = "amd64"
    ) -> None:
        self.directory = directory.absolute()
        self.sources = tuple(sources)
        self.keyring = keyring
        self.architecture = architecture

    def update(self, *, older_than: float = FRESH) -> None:
        """Read the archive's indices anew if ours are older than that many seconds.

        Suites that the mirror does not have are left out (missing_suites()). Unsupported, with apt's own words, if none
        can be read: no mirror reached, or a signature that is wrong.
        """
        stamp = self.directory / "updated"
        self.directory.mkdir(parents=True, exist_ok=True)
        # One process at a time; the others find it done.
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._configured() and stamp.exists() and time.time() - stamp.stat().st_mtime < older_than:
                return
            stamp.unlink(missing_ok=True)
            result = self._apt("apt-get", "update", "-q", check=False)
            if not any(True for _ in self._indices()):
                raise Unsupported(f"no archive of kernels can be read: {_told(result)}")
            stamp.touch()

    def missing_suites(self) -> list[str]:
        """The suites that the mirror does not have, or whose signature is not good."""
        there = {suite for suite, _ in self._indices()}
        return [source.suite for source in self.sources if source.suite not in there]

    def packages(self) -> list[Package]:
        """Every package that a kernel is made of, of every suite."""
        from debian.deb822 import Packages

        found = []
        for suite, file in self._indices():
            text = self._apt("/usr/lib/apt/apt-helper", "cat-file", file).stdout
            for paragraph in text.split("\n\n"):
                if _WANTED.match(paragraph):
                    fields: Any = Packages(paragraph.splitlines())
                    depends = tuple(re.findall(r"linux-(?:binary|modules|base)-\d\S*", fields.get("Depends", "")))
                    found.append(Package(fields["Package"], fields["Version"], suite, depends, int(fields["Size"])))
        return found

    def unlisted(self, name: str, beside: Package) -> Package:
        """A package of the same build as `beside` that no index lists, where the pool keeps it.

        Kernels whose image Debian signs are built from two sources. When a newer one comes, the parts of the first,
        linux, leave the index before those of linux-signed-amd64 do, and the pool later still.
        """
        (uri,) = {source.uri for source in self.sources if source.suite == beside.suite}
        version = beside.version.partition(":")[2] or beside.version
        file = f"{name}_{version}_{self.architecture}.deb"
        return Package(name, beside.version, beside.suite, address=f"{uri.rstrip('/')}/pool/main/l/linux/{file}")

    def download(self, packages: Sequence[Package], into: Path) -> list[Path]:
        """Bring packages into a directory.

        apt checks each against the index that the archive's key has signed, but those that no index lists. Unsupported,
        with apt's own words, if one cannot be had or is not what it should be.
        """
        for one in packages:
            target = into / f"{one.name}.deb"
            if one.address is None:
                result = self._apt("apt-get", "download", "-q", f"{one.name}={one.version}", cwd=into, check=False)
                brought = list(into.glob(f"{one.name}_*.deb"))
                if brought:
                    brought[0].rename(target)
            else:
                result = self._apt("/usr/lib/apt/apt-helper", "download-file", one.address, str(target), check=False)
            if result.returncode or not target.exists():
                raise Unsupported(f"{one.name} {one.version} cannot be had: {_told(result)}")
        return [into / f"{one.name}.deb" for one in packages]

    def _indices(self) -> Iterator[tuple[str, str]]:
        """Suite and file of each index that apt has."""
        listed = self._apt("apt-get", "indextargets", "--format", "$(RELEASE) $(FILENAME)", "Created-By: Packages")
        for line in listed.stdout.splitlines():
            suite, _, file = line.partition(" ")
            if Path(file).exists():
                yield suite, file

    def _configured(self) -> bool:
        """Write apt's configuration; whether it was there already, the same."""
        lines = [
            f"deb [arch={self.architecture} signed-by={self.keyring}] {one.uri} {one.suite} main"
            for one in self.sources
        ]
        options = {
            "Dir::Etc::sourcelist": self.directory / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State": self.directory / "state",
            "Dir::State::status": self.directory / "state" / "status",
            "Dir::Cache": self.directory / "cache",
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Check-Valid-Until": "false",  # suites that have ended are signed for good
            "Acquire::Retries": 3,
            "Acquire::http::Timeout": 30,
        }
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        (self.directory / "state" / "status").touch()
        wanted = {
            "sources.list": "\n".join(lines) + "\n",
            "apt.conf": "".join(f'{key} "{value}";\n' for key, value in options.items()),
        }
        same = True
        for name, text in wanted.items():
            file = self.directory / name
            if not file.exists() or file.read_text() != text:
                same = False
                file.write_text(text)
        return same

    def _apt(self, *argv: str, cwd: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        self._configured()
        environment = ENVIRONMENT | {"APT_CONFIG": str(self.directory / "apt.conf")}
        try:
            result = subprocess.run(
                argv, check=False, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
            )
        except FileNotFoundError:
            raise MissingProgram(argv[0], "apt") from None
        if check and result.returncode:
            raise Unsupported(f"{' '.join(argv[:2])} fails: {_told(result)}")
        return result


def machine_sources() -> list[Source]:
    """Every suite that may have kernels, on the mirrors of this machine's own apt; Unsupported if it knows none."""
    try:
        listed = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages"],
            check=False,
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
        )
    except FileNotFoundError:
        raise MissingProgram("apt-get", "apt") from None
    mirrors = dict(line.split("|", 1) for line in listed.stdout.splitlines() if "|" in line)
    if "Debian" not in mirrors:
        raise Unsupported("this machine's apt knows no mirror of Debian; name one: --mirror ADDRESS --suite NAME")
    # A machine without security updates configured: most mirrors have them beside the archive.
    mirrors.setdefault("Debian-Security", mirrors["Debian"].rstrip("/") + "-security/")
    return [Source(mirrors[label], suite) for label, suites in SUITES.items() for suite in suites]


def named_sources(mirror: str, suites: Sequence[str]) -> list[Source]:
    """Suites of a mirror that the user names, older ones included; BadInput if something is missing."""
    if not suites:
        raise BadInput(f"name the suites of {mirror} as well: --suite stretch")
    return [Source(mirror, suite) for suite in suites]


def _told(result: subprocess.CompletedProcess[str]) -> str:
    """What apt said went wrong, in one line."""
    lines = [line[3:] for line in (result.stderr + result.stdout).splitlines() if line.startswith(("E: ", "Err:"))]
    return "; ".join(dict.fromkeys(lines[:3])) or f"apt ended with status {result.returncode}"
