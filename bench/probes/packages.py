"""Archives of packages, their signatures, packages and other archives: sound ones, made anew with something spoilt."""

from __future__ import annotations

import io
import os
import random
import tarfile
import zipfile
from typing import TYPE_CHECKING

from bench.probes.inside import Probe, mutated, sound
from tests.fuzz import made
from tests.fuzz.targets import INCIDENTS
from tests.fuzz.ways import FILE
from tests.unit import debian_archive
from tests.unit.debian_archive import DebianArchive, Key
from tests.unit.test_kernels_archive import kernels_of_all_years

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIELDS = ("Package", "Version", "Filename", "Size", "SHA256", "Depends")
SUITE = "stretch"


class Packages:
    """What is spoilt: a signed archive of two kernels below a directory, and its key."""

    def __init__(self, place: Path) -> None:
        if absent := debian_archive.missing():
            raise OSError(absent)
        place.mkdir()
        self.key, self.other = Key(place / "key"), Key(place / "other")
        self.archive: DebianArchive = kernels_of_all_years(place)
        self.place = place

    def close(self) -> None:
        """End what the keys have started."""
        self.key.end()
        self.other.end()

    def probes(self, count: int, seed: int) -> Iterator[Probe]:
        """So many, of each sort in turn."""
        chance = random.Random(seed)
        sorts = (self._spoilt_archive, self._odd_index, self._package, self._packed)
        for number in range(count):
            # What was verified once would not be looked at again.
            os.environ["HARNESS_CACHE"] = str(self.place / f"cache-{number}")
            yield sorts[number % len(sorts)](chance)

    def _typed(self, chance: random.Random) -> tuple[str, ...]:
        words = ("kernels", "fetch", "all") if chance.random() < 0.7 else ("kernels", "list", "--all")
        keyring = (self.key if chance.random() < 0.8 else self.other).keyring
        return (*words, "--mirror", f"file:{self.archive.root}", "--suite", SUITE, "--keyring", str(keyring))

    def _spoilt_archive(self, chance: random.Random) -> Probe:
        """A file of the archive has other bytes than were signed."""
        self.archive.also = ""
        self.archive.publish(SUITE, self.key)
        files = sorted(file for file in self.archive.root.rglob("*") if file.is_file())
        file = chance.choice([*files, *self.archive.packages])
        was, number = file.read_bytes(), chance.getrandbits(40)

        def put(_: Path, content: bytes) -> None:
            file.write_bytes(content)

        content = mutated(was, number)
        probe = Probe(self._typed(chance), content, put)
        # Packages stay as they are for the probes that follow; what is published is made anew.
        if file in self.archive.packages:
            self.archive.packages = [self._whole(file, was) if each == file else each for each in self.archive.packages]
        return probe

    def _whole(self, file: Path, content: bytes) -> Path:
        """The same package under another name."""
        kept = file.with_name(f"x{file.name}")
        kept.write_bytes(content)
        return kept

    def _odd_index(self, chance: random.Random) -> Probe:
        """A package is signed, and what is said of it is odd."""
        said = {
            "Package": "linux-image-6.12.1+deb13-amd64",
            "Version": "6.12.1-1",
            "Filename": "pool/x.deb",
            "Size": "1",
        }
        for field in chance.sample(FIELDS, chance.choice((1, 2, 3))):
            said[field] = chance.choice(made.ODD).replace("\n", " ").replace("\0", "")
        also = "\n" + "".join(f"{name}: {value}\n" for name, value in said.items())

        def put(_: Path, __: bytes) -> None:
            self.archive.also = also
            self.archive.publish(SUITE, self.key)

        return Probe(self._typed(chance), also.encode(), put)

    def _package(self, chance: random.Random) -> Probe:
        """A package that the user names."""
        content = mutated(chance.choice(self.archive.packages).read_bytes(), chance.getrandbits(40))

        def put(place: Path, data: bytes) -> None:
            (place / "linux-image.deb").write_bytes(data)

        words = ("kernels", "config", "linux-image.deb") if chance.random() < 0.5 else ("reproduce", "linux-image.deb")
        return Probe(words, content, put)

    def _packed(self, chance: random.Random) -> Probe:
        """Evidence or an operator's files in an archive."""
        of_evidence = chance.random() < 0.5
        files = {f"run/{FILE}": sound()}
        if not of_evidence:
            outputs = [file for file in sorted((INCIDENTS / "full_queue" / "first").iterdir()) if file.is_file()]
            files = {f"web/{file.name}": file.read_bytes() for file in outputs}
        name = chance.choice(("x.zip", "x.tar", "x.tar.gz", "x.tar.xz"))
        content = mutated(_archive(name, files), chance.getrandbits(40))

        def put(place: Path, data: bytes) -> None:
            (place / name).write_bytes(data)

        return Probe(("history", name, "--all") if of_evidence else ("diagnose", name), content, put)


def _archive(name: str, files: dict[str, bytes]) -> bytes:
    made_ = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(made_, "w") as archive:
            for path, content in files.items():
                archive.writestr(path, content)
    else:
        mode = {".gz": "w:gz", ".xz": "w:xz"}.get(name[-3:], "w")
        with tarfile.open(fileobj=made_, mode=mode) as packed:  # type: ignore[call-overload]
            for path, content in files.items():
                about = tarfile.TarInfo(path)
                about.size = len(content)
                packed.addfile(about, io.BytesIO(content))
    return made_.getvalue()
