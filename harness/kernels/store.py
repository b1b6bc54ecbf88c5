"""The kernels that are here: an image and the modules that labs need, in the user's cache or where the user says."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from harness.errors import BadInput, MissingProgram, Unsupported
from harness.kernels import image, places
from harness.kernels.bzimage import banner_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from harness.kernels.archive import Archive
    from harness.kernels.catalogue import Kernel

# Modules by name: links, the packet filter with NAT, socket listings, packet sockets, and the port to the outside.
WANTED = re.compile(
    r"""veth|dummy|bridge|ipv6|inet_diag|tcp_diag|udp_diag|raw_diag|unix_diag|netlink_diag|packet_diag|af_packet(_diag)?
    |nfnetlink|nf_tables|nft_(ct|nat|chain_nat(_ipv[46])?|masq(_ipv[46])?|redir|reject(_inet|_ipv[46])?|numgen|counter
    |limit|quota|log|hash|meta|rt|exthdr|objref|set_hash|set_rbtree|compat)|nf_tables_(inet|ipv[46])|nf_nat(_ipv[46])?
    |nf_conntrack(_ipv[46]|_netlink)?|nf_nat_masquerade_ipv[46]|nf_log_syslog|tun|overlay
    |crc32c(_generic|_cryptoapi)?|virtio(_pci|_ring|_pci_(modern|legacy)_dev|_console|_rng)?""",
    re.VERBOSE,
)
# What is in the cache was chosen by the pattern of its day.
_CHOSEN_BY = hashlib.sha256(WANTED.pattern.encode()).hexdigest()[:12]
_COMPRESSED = {".xz": "xz", ".zst": "zstd", ".gz": "gzip"}


@dataclass(frozen=True)
class Stored:
    """A kernel that can be booted.

    `modules` are the files of the modules that labs need, uncompressed, by name. `enforce` asks the kernel to load only
    modules signed with its own key: for modules that nothing else vouches for.
    """

    release: str
    version: str
    image: Path
    modules: dict[str, Path]
    enforce: bool = False


class _About(msgspec.Struct):
    """What the cache keeps about a kernel; `chosen_by` says which modules were chosen."""

    release: str
    version: str
    enforce: bool
    chosen_by: str


def _absent(release: str, directory: Path) -> BadInput:
    return BadInput(f"kernel {release} is not in {directory}: harness kernels fetch {release}")


class Store:
    """The kernels of the user's cache, a directory each, named for the release."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def has(self, kernel: Kernel) -> bool:
        """Whether a kernel of the archive is here."""
        return self._about(self.directory / kernel.release) is not None

    def all(self) -> list[Stored]:
        """Every kernel that is here."""
        folders = (file.parent for file in sorted(self.directory.glob("*/kernel.json")))
        return [stored for folder in folders if (stored := self._load(folder)) is not None]

    def get(self, kernel: Kernel) -> Stored:
        """A kernel that is here; BadInput if it is not."""
        stored = self._load(self.directory / kernel.release)
        if stored is None:
            raise BadInput(
                f"kernel {kernel.release} is not in {self.directory}: harness kernels fetch {kernel.release}"
            )
        return stored

    def of_release(self, release: str) -> Stored:
        """A kernel that is here, by its release; BadInput if it is not."""
        for kernel in self.all():
            if kernel.release == release:
                return kernel
        raise _absent(release, self.directory)

    def fetch(self, kernel: Kernel, archive: Archive) -> Stored:
        """Bring a kernel, unless it is here. It appears whole or not at all."""
        if self.has(kernel):
            return self.get(kernel)
        from harness.kernels.catalogue import with_unlisted

        complete = with_unlisted(kernel, archive)
        with places.writing(self.directory, kernel.release):
            self.directory.mkdir(parents=True, exist_ok=True)
            places.sweep()
            with self._only_one():
                if not self.has(kernel):
                    self._bring(complete, archive)
        return self.get(kernel)

    def _bring(self, kernel: Kernel, archive: Archive) -> None:
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=self.directory) as temporary:
            packages, whole = Path(temporary, "packages"), Path(temporary, "kernel")
            packages.mkdir()
            (whole / "modules").mkdir(parents=True)
            for package in archive.download(kernel.packages, packages):
                _unpack(package, whole)
                package.unlink()
            if not (whole / "image").exists():
                raise Unsupported(f"{kernel.release}: its packages hold no kernel image")
            banner_of(whole / "image")
            about = _About(kernel.release, kernel.version, bool(kernel.missing), _CHOSEN_BY)
            (whole / "kernel.json").write_bytes(msgspec.json.encode(about))
            target = self.directory / kernel.release
            shutil.rmtree(target, ignore_errors=True)
            whole.rename(target)

    @contextlib.contextmanager
    def _only_one(self) -> Iterator[None]:
        """One process brings kernels, others find them done; the lock is on the directory, so no file is left."""
        directory = os.open(self.directory, os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    @staticmethod
    def _about(directory: Path) -> _About | None:
        """What is kept about a kernel; None if that is gone, damaged, or of another choice of modules."""
        try:
            about = msgspec.json.decode((directory / "kernel.json").read_bytes(), type=_About)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        return about if about.chosen_by == _CHOSEN_BY else None

    def _load(self, directory: Path) -> Stored | None:
        about = self._about(directory)
        if about is None:
            return None
        modules = {file.stem: file for file in sorted((directory / "modules").glob("*.ko"))}
        return Stored(about.release, about.version, directory / "image", modules, about.enforce)


def built(image: Path, modules: Path | None = None) -> Stored:
    """A kernel that the user has: its image, and the directory below which its modules are.

    BadInput if the file is no kernel of this architecture, or the modules are another kernel's.
    """
    banner = banner_of(image)
    release = banner.split()[0]
    files = {} if modules is None else _modules_below(modules)
    for name, module in files.items():
        vermagic = modinfo(module.read_bytes()).get("vermagic", [release])[0].split()[0]
        if vermagic != release:
            raise BadInput(f"{modules}: module {name} is for {vermagic}, the kernel {image} is {release}")
    exact = re.search(r"Debian (\d+\.\d+\.\d+)", banner) or re.match(r"(\d+\.\d+(?:\.\d+)?)", release)
    if exact is None:
        raise BadInput(f"{image}: {release!r} is not a version")
    return Stored(release, exact[1], image.absolute(), files)


def cannot_run(kernel: Stored, lacks: Sequence[str]) -> str:
    """That scenarios cannot run on a kernel, for want of "veth (CONFIG_VETH)" or something else."""
    return (
        f"kernel {kernel.release} cannot run scenarios: it has no {' and no '.join(lacks)}; "
        "if these are modules, name the directory that has them: --kernel IMAGE,modules=DIRECTORY"
    )


def modinfo(module: bytes) -> dict[str, list[str]]:
    """What a module says of itself (depends, vermagic, alias): the NUL-terminated key=value texts of its .modinfo."""
    said: dict[str, list[str]] = {}
    for key, value in re.findall(rb"\0(depends|vermagic|name)=([^\0]*)", module):
        said.setdefault(key.decode(), []).append(value.decode())
    return said


def in_order(modules: dict[str, Path]) -> list[Path]:
    """The modules' files in an order in which each comes after those that it depends on."""
    ordered: dict[str, Path] = {}

    def add(name: str) -> None:
        file = modules.get(name)
        if file is None or name in ordered:  # not here: built in
            return
        for needed in _depends(file):
            add(needed)
        ordered[name] = file

    for name in modules:
        add(name)
    return list(ordered.values())


def _unpack(package: Path, into: Path) -> None:
    """Take the image and the modules out of a package, as they stream by."""
    modules: dict[str, bytes] = {}
    with tempfile.TemporaryFile() as errors:
        try:
            unpacking = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE, stderr=errors)
        except FileNotFoundError:
            raise MissingProgram("dpkg-deb", "dpkg") from None
        assert unpacking.stdout is not None
        with unpacking:
            try:
                modules = _image_out_of(unpacking.stdout, into)
            except tarfile.TarError:
                unpacking.kill()
        if unpacking.returncode:
            errors.seek(0)
            said = " ".join(errors.read().decode(errors="replace").split())
            raise Unsupported(f"{package.name}: dpkg-deb cannot unpack it: {said}")
    _keep_wanted(modules, into / "modules")


def _image_out_of(files: IO[bytes], into: Path) -> dict[str, bytes]:
    """Write the image, and return the modules."""
    everything: dict[str, bytes] = {}
    with tarfile.open(fileobj=files, mode="r|") as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            content = archive.extractfile(member) if member.isreg() else None
            if content is None:
                continue
            if re.match(r"vmlinuz(-|$)", name):
                with (into / "image").open("wb") as kernel:
                    shutil.copyfileobj(content, kernel)
            elif match := re.fullmatch(r"([\w-]+)\.ko(\.\w+)?", name):
                everything[match[1].replace("-", "_") + ".ko" + (match[2] or "")] = content.read()
    return everything


def _keep_wanted(everything: dict[str, bytes], into: Path) -> None:
    """Write those modules that are wanted, and what they depend on, uncompressed."""
    files = {name.partition(".")[0]: name for name in everything}

    def bring(name: str) -> Path:
        file = into / f"{name}.ko"
        file.write_bytes(_uncompressed(files[name], everything[files[name]]))
        return file

    _wanted(files, bring)


def _wanted(names: Collection[str], bring: Callable[[str], Path]) -> dict[str, Path]:
    """Those of the modules that are wanted, and what they depend on; `bring` puts one where it can be read."""
    there = set(names)
    files: dict[str, Path] = {}
    todo = [name for name in names if WANTED.fullmatch(name)]
    while todo:
        name = todo.pop()
        if name not in there:  # done, or built in
            continue
        there.remove(name)
        files[name] = bring(name)
        todo += _depends(files[name])
    return files


def _depends(module: Path) -> list[str]:
    """The modules that one depends on, by name."""
    listed = ",".join(modinfo(module.read_bytes()).get("depends", [])).split(",")
    return [name.replace("-", "_") for name in listed if name]


def _uncompressed(name: str, content: bytes) -> bytes:
    suffix = Path(name).suffix
    if suffix == ".xz":
        return lzma.decompress(content)
    if suffix in _COMPRESSED:
        program = _COMPRESSED[suffix]
        try:
            return subprocess.run([program, "-dc"], input=content, capture_output=True, check=True).stdout
        except FileNotFoundError:
            raise MissingProgram(program, program) from None
    return content


def _modules_below(directory: Path) -> dict[str, Path]:
    """The wanted modules of a folder, with what they depend on."""
    files = {file.name.partition(".")[0].replace("-", "_"): file for file in _module_files(directory)}
    return _wanted(files, lambda name: _unpacked(files[name]))


def _unpacked(module: Path) -> Path:
    """A module as the kernel loads it, in the cache if it is compressed where it is."""
    if module.suffix == ".ko":
        return module
    content = _uncompressed(module.name, module.read_bytes())
    name = f"{module.name.partition('.')[0]}-{hashlib.sha256(content).hexdigest()[:16]}.ko"
    unpacked = places.cache() / "modules" / name
    if not unpacked.exists():
        image.write(unpacked, [content])
    return unpacked


def _module_files(directory: Path) -> Iterator[Path]:
    for pattern in ("**/*.ko", "**/*.ko.xz", "**/*.ko.zst", "**/*.ko.gz"):
        yield from sorted(directory.glob(pattern))
