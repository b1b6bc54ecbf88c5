"""Debian's archive, by way of apt: which kernels it has, and their packages, verified.

apt does the work: it knows the machine's mirror and proxy, checks signatures with the archive's keyring and the hashes
of what it brings. Its state, cache and sources are of our own, below our cache directory, so that nothing of the
machine's apt is touched, nothing is installed, and no root is needed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness.errors import BadInput, MissingProgram, Unsupported
from harness.kernels import places

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
# What was found in the indices.
READ = "read.json"
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


class _Index(msgspec.Struct):
    """What an archive has, as it was read last, and why a suite could not be read."""

    problems: dict[str, str]
    packages: list[Package]


class Archive:
    """What apt can bring from the given sources; `directory` is where it keeps what it knows of them.

    `strict`: every source must be readable; otherwise those that are not are left out (see problems()).
    """

    def __init__(
        self,
        directory: Path,
        sources: Sequence[Source],
        *,
        keyring: str = KEYRING,
        architecture: str = "amd64",
        strict: bool = False,
    ) -> None:
        self.directory = directory.absolute()
        self.sources = tuple(sources)
        self.keyring = keyring
        self.architecture = architecture
        self.strict = strict

    def update(self, *, older_than: float = FRESH) -> None:
        """Read the archive's indices anew if ours are older than that many seconds.

        Suites that cannot be read are left out, and problems() has why. Unsupported if none can, or, with strict, one
        cannot: no mirror reached, no such suite, an index that is not what was signed, a signature by another key.
        """
        with places.writing(self.directory, "the index of the archive"):
            self.directory.parent.mkdir(parents=True, exist_ok=True)
            # One process at a time; the others find it done. Beside the directory, for that may go.
            with (self.directory.parent / f".{self.directory.name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                read = self.directory / READ
                if self._configured() and read.exists() and time.time() - read.stat().st_mtime < older_than:
                    return
                read.unlink(missing_ok=True)
                # "any": otherwise apt is content with the old index where the new one cannot be had.
                result = self._apt("apt-get", "update", "-q", "-o", "APT::Update::Error-Mode=any", check=False)
                problems = self._problems_of(result)
                there = any(True for _ in self._indices())
                if not there or (self.strict and problems):
                    if not there:
                        shutil.rmtree(self.directory, ignore_errors=True)
                    raise Unsupported(_in_one_line(list(problems.values()) or [_told(result)]))
                read.with_suffix(".part").write_bytes(msgspec.json.encode(_Index(problems, list(self._parsed()))))
                read.with_suffix(".part").replace(read)

    def problems(self) -> dict[str, str]:
        """Why a suite could not be read, or not anew, when that was tried last."""
        return self._read().problems

    def packages(self) -> list[Package]:
        """Every package that a kernel is made of, of every suite."""
        return self._read().packages

    def _read(self) -> _Index:
        """What update() has read, kept because the indices are large; nothing, if it is gone or damaged."""
        try:
            return msgspec.json.decode((self.directory / READ).read_bytes(), type=_Index)
        except (FileNotFoundError, msgspec.MsgspecError):
            return _Index({}, [])

    def _problems_of(self, result: subprocess.CompletedProcess[str]) -> dict[str, str]:
        """What apt said about each suite that it could not read, by suite, with what to do about it."""
        problems = {}
        for source in self.sources:
            uri = source.uri.rstrip("/")
            # "Err:2 http://HOST/debian stretch Release", and the reason on the next line.
            answer = re.search(
                rf"^Err:\d+ {re.escape(uri)}/? {re.escape(source.suite)}[ /].*\n +(.*)", result.stdout, re.M
            )
            about = [line for line in result.stderr.splitlines() if uri in line and source.suite in line]
            if answer or about:
                reason = self._reason(answer[1] if answer else "", " ".join(about))
                problems[source.suite] = f"{uri} {source.suite}: {reason}"
        return problems

    def _reason(self, answer: str, errors: str) -> str:
        if "signature" in answer or "GPG error" in errors or "is not signed" in errors:
            key = re.search(r"(NO_PUBKEY|BADSIG|EXPKEYSIG|REVKEYSIG|NODATA)[ \w]*", f"{answer} {errors}")
            which = f" ({key[0].strip()})" if key else ""
            return (
                f"not signed by a key of {self.keyring}{which}; nothing of it is used. "
                "If other keys sign this mirror, name them: --keyring FILE"
            )
        if re.match(r"404 |File not found", answer):
            return "the mirror has no such suite"
        return re.sub(r" \[IP: .*", "", answer) or errors

    def _parsed(self) -> Iterator[Package]:
        """Every package that a kernel is made of, out of the indices."""
        from debian.deb822 import Packages

        for suite, file in self._indices():
            text = self._apt("/usr/lib/apt/apt-helper", "cat-file", file).stdout
            for paragraph in text.split("\n\n"):
                if _WANTED.match(paragraph):
                    fields: Any = Packages(paragraph.splitlines())
                    depends = tuple(re.findall(r"linux-(?:binary|modules|base)-\d\S*", fields.get("Depends", "")))
                    yield Package(fields["Package"], fields["Version"], suite, depends, int(fields["Size"]))

    def unlisted(self, name: str, beside: Package) -> Package:
        """A package of the same build as `beside` that no index lists, where the pool keeps it.

        Kernels whose image Debian signs are built from two sources. When a newer one comes, the parts of the first,
        linux, leave the index before those of linux-signed-amd64 do, and the pool later still. Modules alone: the
        kernel lets no other be loaded than those signed with its own key, and for the kernel nothing would vouch.
        """
        if not name.startswith("linux-modules-"):
            raise Unsupported(f"{name} {beside.version} is listed no more in {beside.suite}: take another release")
        (uri,) = {source.uri for source in self.sources if source.suite == beside.suite}
        version = beside.version.partition(":")[2] or beside.version
        file = f"{name}_{version}_{self.architecture}.deb"
        return Package(name, beside.version, beside.suite, address=f"{uri.rstrip('/')}/pool/main/l/linux/{file}")

    def download(self, packages: Sequence[Package], into: Path) -> list[Path]:
        """Bring packages into a directory.

        apt checks each against the index that the archive's key has signed, but those that no index lists. Unsupported,
        with apt's own words, if one cannot be had or is not what it should be.
        """
        for package in packages:
            target = into / f"{package.name}.deb"
            if package.address is None:
                result = self._apt(
                    "apt-get", "download", "-q", f"{package.name}={package.version}", cwd=into, check=False
                )
                brought = list(into.glob(f"{package.name}_*.deb"))
                if brought:
                    brought[0].rename(target)
            else:
                result = self._apt(
                    "/usr/lib/apt/apt-helper", "download-file", package.address, str(target), check=False
                )
            if result.returncode or not target.exists():
                raise Unsupported(f"{package.name} {package.version} of {package.suite} cannot be had: {_told(result)}")
        return [into / f"{package.name}.deb" for package in packages]

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
            f"deb [arch={self.architecture} signed-by={self.keyring}] {source.uri} {source.suite} main"
            for source in self.sources
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
    if not re.fullmatch(r"[a-z][a-z+]*:/[^\s\[\]]+", mirror):
        raise BadInput(
            f"--mirror {mirror}: not the address of a mirror, such as http://HOST/debian or file:/srv/debian"
        )
    if not suites:
        raise BadInput(f"name the suites of {mirror} as well: --suite stretch")
    for suite in suites:
        if not re.fullmatch(r"\w[\w.+~/-]*(?<!/)", suite):
            raise BadInput(f"--suite {suite}: not the name of a suite, such as stretch or stretch-backports")
    return [Source(mirror, suite) for suite in suites]


def the_archive(
    mirror: str | None = None, suites: Sequence[str] = (), keyring: str | None = None, *, older_than: float = FRESH
) -> Archive:
    """The archive of this machine's apt, or the one that the user names, its index read; BadInput, Unsupported."""
    if suites and not mirror:
        raise BadInput("--suite needs --mirror, the address that has it")
    keys = KEYRING if keyring is None else os.path.abspath(keyring)  # noqa: PTH100 - as the user sees it, no links
    if not os.access(keys, os.R_OK):
        advice = "; on Debian: apt-get install debian-archive-keyring" if keyring is None else ""
        raise BadInput(f"{keys}: this keyring of archives cannot be read{advice}")
    if re.search(r"[\s\[\]]", keys):
        raise BadInput(f"--keyring {keyring}: apt takes no path with spaces or brackets; copy it to another place")
    sources = named_sources(mirror, suites) if mirror else machine_sources()
    # One state for each set of sources, so that a mirror tried once does not throw away the machine's own.
    name = hashlib.sha256(repr((sources, keys)).encode()).hexdigest()[:12]
    there = Archive(places.indices() / name, sources, keyring=keys, strict=mirror is not None)
    there.update(older_than=older_than)
    return there


def _told(result: subprocess.CompletedProcess[str]) -> str:
    """What apt said went wrong, in one line."""
    lines = [line[3:] for line in (result.stderr + result.stdout).splitlines() if line.startswith(("E: ", "Err:"))]
    return "; ".join(dict.fromkeys(lines[:3])) or f"apt ended with status {result.returncode}"


def _in_one_line(problems: list[str]) -> str:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"no archive of kernels can be read: {problems[0]}{more}"
