"""What a suite of Debian's archive says of kernels: its signed Release file, and the index that this vouches for.

An index has some sixty thousand packages, fifty megabytes of text. It is read as it is unpacked, once; one that the
Release file names by the same hash as the day before is not brought again.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import re
import tempfile
import time
import zlib
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

from harness import files
from harness.errors import BadInput, Unsupported
from harness.kernels.apt import told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.kernels.apt import Apt

# The smallest first.
_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".xz": lzma.open,
    ".lzma": lzma.open,
    ".bz2": bz2.open,
    ".gz": gzip.open,
    "": lambda path: path.open("rb"),
}
_WANTED = re.compile(rb"^Package: linux-(?:image|binary|modules|base)-\d", re.MULTILINE)
_AT_ONCE = 1 << 20
_OLD = "its index was to be replaced by"


@dataclass(frozen=True)
class Source:
    """A repository: its address and one suite of it."""

    uri: str
    suite: str


@dataclass(frozen=True)
class Package:
    """A binary package of a suite, of which other parts of the kernel it depends on, and its size in bytes.

    `address` is where it can be had, `digest` its SHA-256. Without one nothing vouches for it: no index lists it any
    more, while the archive's pool still has it.
    """

    name: str
    version: str
    suite: str
    depends: tuple[str, ...] = ()
    size: int = 0
    address: str = ""
    digest: str | None = None


@dataclass(frozen=True)
class Read:
    """What was found in the index of a suite with this SHA-256; `notices` say what is odd or old in it, a line each."""

    digest: str
    packages: tuple[Package, ...]
    notices: tuple[str, ...] = ()


def read(apt: Apt, source: Source, architecture: str, known: Read | None) -> Read:
    """The packages that kernels are made of; `known` is what was read before.

    Unsupported if the suite's Release file names no index, or none of those can be had as it was signed.
    """
    from debian.deb822 import Release

    with _release_file(apt, source).open("rb") as opened:
        release = Release(opened)
    below = f"main/binary-{architecture}"
    listed = {entry["name"]: entry["sha256"] for entry in release.get("SHA256", ())}
    forms = {suffix: listed[name] for suffix in _OPENERS if (name := f"{below}/Packages{suffix}") in listed}
    if not forms:
        raise Unsupported(f"its Release file names no {below}/Packages")
    old = tuple(_outdated(release, source))
    if known is not None and known.digest in forms.values():
        return replace(known, notices=(*(line for line in known.notices if _OLD not in line), *old))
    top = f"{source.uri.rstrip('/')}/dists/{source.suite}/{below}"
    problem = ""
    with tempfile.TemporaryDirectory(prefix=".index-", dir=apt.directory) as temporary:
        for suffix, digest in forms.items():
            file = Path(temporary, f"Packages{suffix}")
            by_hash = [f"by-hash/SHA256/{digest}"] if release.get("Acquire-By-Hash") == "yes" else []
            for name in (*by_hash, file.name):
                result = apt.download(f"{top}/{name}", file, digest)
                if not result.returncode:
                    found = _packages(suffix, file, source)
                    packages = tuple(each for each in found if isinstance(each, Package))
                    return Read(digest, packages, (*(each for each in found if isinstance(each, str)), *old))
                problem = problem or told(result)
    raise Unsupported(problem)


def _release_file(apt: Apt, source: Source) -> Path:
    """The Release file of a suite, which apt has verified; Unsupported if there is none.

    apt calls it by its address, with what a file's name must not have written as %7e.
    """
    spelled = re.sub(rb"[~_\x7f-\xff]", lambda found: b"%%%02x" % found[0][0], source.suite.encode()).decode()
    for signed in ("InRelease", "Release"):
        for file in apt.lists.glob(f"*_dists_{spelled.replace('/', '_')}_{signed}"):
            return file
    raise Unsupported("apt has no Release file of it")


def _outdated(release: Mapping[str, Any], source: Source) -> Iterator[str]:
    """What to say of an index that was to be replaced before today.

    Suites that have ended are signed for good, so they are used. But whoever holds newer ones back sends old ones.
    """
    until = release.get("Valid-Until", "")
    with contextlib.suppress(ValueError, TypeError):
        if parsedate_to_datetime(until).timestamp() < time.time():
            yield f"{source.suite}: {_OLD} {until}: newer kernels may be held back"


def _packages(suffix: str, file: Path, source: Source) -> tuple[Package | str, ...]:
    """Every package of an index that a kernel is made of, and a line for each that is odd.

    Unsupported if the index is damaged, though signed.
    """
    from debian.deb822 import Packages

    try:
        with _OPENERS[suffix](file) as index:
            return tuple(_package(Packages(text.splitlines()), source) for text in _paragraphs(index))
    except (OSError, lzma.LZMAError, zlib.error, EOFError, KeyError, ValueError) as error:
        raise Unsupported(f"its index {file.name} is damaged, as it was signed: {error!r}") from None


def _package(fields: Mapping[str, str], source: Source) -> Package | str:
    """A package, if its fields are what they are to be: its name becomes the name of files. A line if they are not."""
    depends = tuple(re.findall(r"linux-(?:binary|modules|base)-\d[\w.+~-]*", fields.get("Depends", "")))
    try:
        address = f"{source.uri.rstrip('/')}/{quote(fields['Filename'], safe='/+~:')}"
        name, version = files.part(fields["Package"], "its name"), files.part(fields["Version"], "its version")
        return Package(name, version, source.suite, depends, int(fields["Size"]), address, fields["SHA256"])
    except (KeyError, ValueError, BadInput) as error:
        why = f"it has no {error.args[0]}" if isinstance(error, KeyError) else str(error)
        return f"{source.suite}: the package {fields.get('Package', '?')[:80]!r} of its index is left out: {why}"


def _paragraphs(index: IO[bytes]) -> Iterator[str]:
    """The paragraphs that are wanted; the others are passed over without a look at their lines."""
    left = b""
    while piece := index.read(_AT_ONCE):
        text = left + piece
        # The last paragraph may go on in the next piece.
        end = text.rfind(b"\n\n") + 1
        yield from _among(text[:end])
        left = text[end:]
    yield from _among(left)


def _among(text: bytes) -> Iterator[str]:
    for found in _WANTED.finditer(text):
        begin, end = text.rfind(b"\n\n", 0, found.start()) + 1, text.find(b"\n\n", found.start())
        yield text[begin : end if end >= 0 else None].decode().strip()
