"""Debian's archive, by way of apt: which kernels it has, and their packages, verified.

apt does the work: it knows the machine's mirror and proxy, checks signatures with the archive's keyring and the hashes
of what it brings. Its state, cache and sources are of our own, below our cache directory, so that nothing of the
machine's apt is touched, nothing is installed, and no root is needed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness import files, screen
from harness.errors import BadInput, MissingProgram, Unsupported
from harness.kernels import indices, places
from harness.kernels.apt import ENVIRONMENT, Apt, told
from harness.kernels.indices import Package, Read, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Where each suite is: the archive itself, or the one for security updates.
SUITES = {
    "Debian": (
        *("bullseye", "bookworm", "trixie", "forky", "sid", "experimental"),
        *("bullseye-backports", "bookworm-backports", "trixie-backports"),
    ),
    "Debian-Security": ("bullseye-security", "bookworm-security", "trixie-security"),
}
FRESH = 24 * 3600.0
# What was found in the indices, and whose mirrors the machine's apt has.
READ, MIRRORS = "kernels.json", "mirrors.json"
# Indices that are brought and read at the same time.
_AT_ONCE = 4
_UNSIGNED = "nothing of it is used"


def shown(done: int, of: int) -> None:
    """Say on the terminal, if standard error is one, how many suites have been read; the line goes when all have."""
    if screen.is_watched(sys.stderr):
        text = f"\rharness: reading what the archive has, {done} of {of} suites" if done < of else "\r\x1b[K"
        print(text, end="", file=sys.stderr, flush=True)


class _Index(msgspec.Struct):
    """What an archive has, by suite, as it was read last, and why a suite could not be read."""

    problems: dict[str, str]
    suites: dict[str, Read]


class _Mirrors(msgspec.Struct):
    """The mirrors that the machine's apt knows, by label, and how its settings looked then."""

    looks: str
    mirrors: dict[str, str]


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Archive:
    """What apt can bring from the given sources; `directory` is where it keeps what it knows of them.

    `strict`: every source must be readable; otherwise those that are not are left out (see problems()). `progress` is
    told how many suites have been read, of how many.
    """

    def __init__(
        self,
        directory: Path,
        sources: Sequence[Source],
        *,
        keyring: str = KEYRING,
        architecture: str = "amd64",
        strict: bool = False,
        progress: Callable[[int, int], None] = shown,
    ) -> None:
        self.directory = directory.absolute()
        self.sources = tuple(sources)
        self.keyring = keyring
        self.architecture = architecture
        self.strict = strict
        self._progress = progress
        self.was_read_anew = False
        options = f"arch={architecture} signed-by={keyring} target=none"
        lines = [f"deb [{options}] {source.uri} {source.suite} main" for source in self.sources]
        self._apt = Apt(self.directory, architecture, lines)

    def update(self, *, older_than: float = FRESH) -> None:
        """Read the archive's indices anew if ours are older than that many seconds.

        Suites that cannot be read are left out, and problems() has why. Unsupported if none can, or, with strict, one
        cannot: no mirror reached, no such suite, an index that is not what was signed, a signature by another key.
        """
        with places.writing(self.directory, "the index of the archive"):
            self.directory.parent.mkdir(parents=True, exist_ok=True)
            # One process at a time; the others find it done. On the directory above, so that no file is left.
            with _locked(self.directory.parent):
                read = self.directory / READ
                before = self._read()
                is_fresh = bool(before.suites) and time.time() - read.stat().st_mtime < older_than
                if self._apt.configured() and is_fresh:
                    return
                read.unlink(missing_ok=True)
                index = self._read_anew(before)
                if not index.suites or (self.strict and index.problems):
                    if not index.suites:
                        shutil.rmtree(self.directory, ignore_errors=True)
                    raise Unsupported(_in_one_line(list(index.problems.values())))
                _keep(read, index)
                self.was_read_anew = True

    def _read_anew(self, before: _Index) -> _Index:
        """What each suite says now.

        One that cannot be reached says what it said before; of one whose signature is wrong nothing is used.
        """
        # "any": otherwise apt is content with the old Release file where the new one cannot be had.
        result = self._apt.run("apt-get", "update", "-q", "-o", "APT::Update::Error-Mode=any")
        problems = self._problems_of(result)
        if result.returncode and not problems:
            problems = {source.suite: told(result) for source in self.sources}
        suites: dict[str, Read] = {}
        done = 0

        def look(source: Source) -> None:
            nonlocal done
            known = before.suites.get(source.suite)
            try:
                if source.suite not in problems:
                    suites[source.suite] = indices.read(self._apt, source, self.architecture, known)
                elif known is not None and _UNSIGNED not in problems[source.suite]:
                    suites[source.suite] = known
            except Unsupported as error:
                problems[source.suite] = f"{source.uri.rstrip('/')} {source.suite}: {error}"
            done += 1
            self._progress(done, len(self.sources))

        self._progress(done, len(self.sources))
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            list(threads.map(look, self.sources))
        return _Index(problems, {one.suite: suites[one.suite] for one in self.sources if one.suite in suites})

    def problems(self) -> dict[str, str]:
        """Why a suite could not be read, or not anew, when that was tried last."""
        return self._read().problems

    def notices(self) -> list[str]:
        """What is odd or old in the indices, a line each."""
        return [notice for read in self._read().suites.values() for notice in read.notices]

    def packages(self) -> list[Package]:
        """Every package that a kernel is made of, of every suite."""
        return [package for read in self._read().suites.values() for package in read.packages]

    def _read(self) -> _Index:
        """What update() has read, kept because the indices are large; nothing, if it is gone or damaged."""
        try:
            return msgspec.json.decode((self.directory / READ).read_bytes(), type=_Index)
        except (OSError, ValueError, RecursionError, msgspec.MsgspecError):
            return _Index({}, {})

    def _problems_of(self, result: subprocess.CompletedProcess[str]) -> dict[str, str]:
        """What apt said about each suite that it could not read, by suite, with what to do about it."""
        problems = {}
        for source in self.sources:
            uri = source.uri.rstrip("/")
            # "Err:2 http://HOST/debian stretch Release", and the reason on the next line.
            named = rf"{re.escape(uri)}/?(?: |/dists/){re.escape(source.suite)}[ /]"
            answer = re.search(rf"^Err:\d+ {named}.*\n +(.*)", result.stdout, re.MULTILINE)
            about = [line for line in result.stderr.splitlines() if re.search(named, line)]
            if answer or about:
                reason = self._reason(answer[1] if answer else "", " ".join(about))
                problems[source.suite] = f"{uri} {source.suite}: {reason}"
        return problems

    def _reason(self, answer: str, errors: str) -> str:
        if "signature" in answer or "GPG error" in errors or "is not signed" in errors:
            key = re.search(r"(NO_PUBKEY|BADSIG|EXPKEYSIG|REVKEYSIG|NODATA)[ \w]*", f"{answer} {errors}")
            which = f" ({key[0].strip()})" if key else ""
            return (
                f"not signed by a key of {self.keyring}{which}; {_UNSIGNED}. "
                "If other keys sign this mirror, name them: --keyring FILE"
            )
        if re.match(r"404 |File not found", answer):
            return "the mirror has no such suite"
        return re.sub(r" \[IP: .*", "", answer) or errors

    def unlisted(self, name: str, beside: Package) -> Package:
        """A package of the same build as `beside` that no index lists, where the pool keeps it.

        Kernels whose image Debian signs are built from two sources. When a newer one comes, the parts of the first,
        linux, leave the index before those of linux-signed-amd64 do, and the pool later still. Modules alone: the
        kernel lets no other be loaded than those signed with its own key, and for the kernel nothing would vouch.
        """
        if not name.startswith("linux-modules-"):
            raise Unsupported(f"{name} {beside.version} is no longer listed in {beside.suite}: take another release")
        (uri,) = {source.uri for source in self.sources if source.suite == beside.suite}
        version = beside.version.partition(":")[2] or beside.version
        file = f"{name}_{version}_{self.architecture}.deb"
        return Package(name, beside.version, beside.suite, address=f"{uri.rstrip('/')}/pool/main/l/linux/{file}")

    def download(self, packages: Sequence[Package], into: Path) -> list[Path]:
        """Bring packages into a directory.

        apt checks each against the hash that its index has, but those that no index lists. Unsupported, with apt's own
        words, if one cannot be had or is not what it should be.
        """
        files = [into / f"{package.name}.deb" for package in packages]
        for package, file in zip(packages, files, strict=True):
            result = self._apt.download(package.address, file, package.digest)
            if result.returncode or not file.exists():
                raise Unsupported(f"{package.name} {package.version} of {package.suite} cannot be had: {told(result)}")
        return files


def machine_sources() -> list[Source]:
    """Every suite that may have kernels, on the mirrors of this machine's own apt; Unsupported if it knows none."""
    mirrors = _mirrors()
    if "Debian" not in mirrors:
        raise Unsupported("this machine's apt knows no mirror of Debian; name one: --mirror ADDRESS --suite NAME")
    # A machine without security updates configured: most mirrors have them beside the archive.
    mirrors.setdefault("Debian-Security", mirrors["Debian"].rstrip("/") + "-security/")
    return [Source(mirrors[label], suite) for label, suites in SUITES.items() for suite in suites]


def _mirrors() -> dict[str, str]:
    """The mirrors that this machine's apt knows, by label; it is asked anew when its settings look otherwise."""
    kept, looks = places.indices() / MIRRORS, _looks()
    with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
        known = msgspec.json.decode(kept.read_bytes(), type=_Mirrors)
        if known.looks == looks:
            return known.mirrors
    # As root apt would write its picture of all packages anew where that is old: none is written.
    unwritten = ["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]
    words = [*unwritten, "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages"]
    try:
        listed = subprocess.run(
            ["apt-get", "indextargets", *words], check=False, capture_output=True, text=True, env=ENVIRONMENT
        )
    except FileNotFoundError:
        raise MissingProgram("apt-get", "apt") from None
    mirrors = dict(line.split("|", 1) for line in listed.stdout.splitlines() if "|" in line)
    with places.writing(kept.parent, "what this machine's apt knows"):
        kept.parent.mkdir(parents=True, exist_ok=True)
        _keep(kept, _Mirrors(looks, mirrors))
    return mirrors


def _keep(file: Path, content: _Index | _Mirrors) -> None:
    """Write a file; it appears whole or not at all, whoever else writes it."""
    files.write(file, msgspec.json.encode(content))


def _looks() -> str:
    """What apt's answer depends on: its settings, and what it has verified of each suite."""
    looked_at = (*Path("/etc/apt").rglob("*"), Path("/etc/apt"), Path("/var/lib/apt/lists"))
    return hashlib.sha256("".join(f"{file} {_changed(file)}\n" for file in sorted(looked_at)).encode()).hexdigest()


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:  # it is no more, or points nowhere
        return 0


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
    mirror: str | None = None,
    suites: Sequence[str] = (),
    keyring: str | None = None,
    *,
    older_than: float = FRESH,
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


def _in_one_line(problems: list[str]) -> str:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"no archive of kernels can be read: {problems[0]}{more}"
