"""The system that a guest runs: all of it in memory, made of this machine's own interpreter, libraries and programs.

With a disk or a shared folder the guest idles while the host fetches, and its simulated clock runs away; so everything
is in the initial RAM file system. Files stand at the paths that they have outside. The same files give the same bytes,
whoever owns them and whenever they were written.
"""

# Most paths here are names in an archive, and links are followed by hand.
# ruff: noqa: PTH100, PTH110, PTH113, PTH114, PTH115, PTH116, PTH118, PTH120

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from harness import files
from harness.errors import BadInput
from harness.kernels import bytecode, distributions, places, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from importlib import metadata

    from packaging.utils import NormalizedName

# What scenarios start, and what those start; programs that are missing here are missing there.
PROGRAMS = (
    *("nginx", "wrk", "hping3", "ss", "netstat", "nstat", "nft", "sysctl", "ip", "ps", "ethtool", "tcpdump", "dmesg"),
    *(
        "sh",
        "bash",
        "grep",
        "awk",
        "sed",
        "sort",
        "uniq",
        "wc",
        "cat",
        "head",
        "tail",
        "tr",
        "cut",
        "date",
        "env",
        "echo",
    ),
    *(
        "ls",
        "sleep",
        "kill",
        "mount",
        "umount",
        "unshare",
        "nsenter",
        "setpriv",
        "runuser",
        "su",
        "true",
        "false",
        "id",
    ),
    # What scripts of packetdrill start.
    *("tc", "ifconfig", "touch"),
    *("test", "expr", "printf", "timeout", "tee", "mkdir", "rm", "ln", "cp", "mv", "chmod", "uname", "seq", "perl"),
)
FILES = (
    "/etc/services",
    "/etc/protocols",
    "/etc/nsswitch.conf",
    "/etc/localtime",
    "/etc/ld.so.cache",
    "/etc/mime.types",
)
# Parts of the standard library that no test needs.
LEFT_OUT = re.compile(
    r"(^|/)(test|tests|idlelib|tkinter|turtledemo|lib2to3|ensurepip|pydoc_data|config-[^/]*|site-packages|dist-packages"
    r"|__pycache__|include)(/|$)"
)
# What only the process at the terminal needs.
OUTSIDE = ("rich",)
# So many files are given to ldd.
AT_ONCE = 500
DIRECTORIES = (
    "dev",
    "proc",
    "sys",
    "run",
    "tmp",
    "root",
    "etc",
    "var/log/nginx",
    "var/lib/nginx",
    "var/tmp",
    "home/user",
)
# A user of the guest for those who want to be nobody in particular.
PASSWD = "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\n" \
         "nobody:x:65534:65534::/nonexistent:/bin/false\n"  # fmt: skip
GROUP = "root:x:0:\nuser:x:1000:\nwww-data:x:33:\nnogroup:x:65534:\n"


class Tree:
    """The files of an image: path without the first slash, to what it is."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[int, bytes | Path]] = {}

    def directory(self, path: str, mode: int = 0o755) -> None:
        """A directory, with those above it."""
        path = path.strip("/")
        if path and (path not in self.entries or mode != 0o755):
            self.directory(os.path.dirname(path))
            self.entries[path] = (stat.S_IFDIR | mode, b"")

    def text(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """A file made up here."""
        self.directory(os.path.dirname(path))
        self.entries[path.strip("/")] = (stat.S_IFREG | mode, content.encode() if isinstance(content, str) else content)

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        self.directory(os.path.dirname(path))
        self.entries[path.strip("/")] = (stat.S_IFLNK | 0o777, target.encode())

    def device(self, path: str, major: int, minor: int) -> None:
        """A character device: the first program has these before anything is mounted."""
        self.entries[path.strip("/")] = (stat.S_IFCHR | 0o666, b"%d:%d" % (major, minor))

    def copy(self, file: str | Path, content: str | Path | None = None) -> None:
        """A file of this machine at its own path; links on the way to it as they are here.

        `content` is a file that is to stand at that path; by default the one that does here.
        """
        path = os.path.abspath(file)
        source = path if content is None else os.path.abspath(content)
        if path.strip("/") in self.entries:
            return
        # A link above it (/lib, /bin) stays a link, so that the path leads to the same file there.
        parts = path.strip("/").split("/")
        for n in range(1, len(parts) + (source == path)):
            above = "/" + "/".join(parts[:n])
            if os.path.islink(above):
                if above.strip("/") not in self.entries:
                    self.link(above, os.readlink(above))
                target = os.path.normpath(os.path.join(os.path.dirname(above), os.readlink(above), *parts[n:]))
                self.copy(target, None if source == path else source)
                return
        if os.path.islink(source):
            self.link(path, os.readlink(source))
        elif os.path.isfile(source):
            self.directory(os.path.dirname(path))
            executable = os.stat(source).st_mode & 0o111
            self.entries[path.strip("/")] = (stat.S_IFREG | (0o755 if executable else 0o644), Path(source))

    def content(self, path: str) -> bytes:
        """The bytes of an entry."""
        content = self.entries[path][1]
        return content.read_bytes() if isinstance(content, Path) else content

    def size(self) -> int:
        """How many bytes its files have."""
        contents = (content for _, content in self.entries.values())
        return sum(content.stat().st_size if isinstance(content, Path) else len(content) for content in contents)

    def digest(self) -> str:
        """What identifies the image: names, kinds and contents."""
        total = hashlib.sha256()
        for path in sorted(self.entries):
            mode, _ = self.entries[path]
            total.update(f"{path}\0{mode:o}\0".encode() + hashlib.sha256(self.content(path)).digest())
        return total.hexdigest()[:24]

    def cpio(self) -> Iterator[bytes]:
        """The archive that Linux unpacks as its first file system.

        Documentation/driver-api/early-userspace/buffer-format.rst.
        """
        for number, path in enumerate(sorted(self.entries), start=1):
            mode, _ = self.entries[path]
            yield from _newc(path, mode, self.content(path), number)
        yield from _newc("TRAILER!!!", 0, b"", 0)

    def tar(self) -> Iterator[bytes]:
        """The archive that is unpacked in a guest that runs already."""
        for path in sorted(self.entries):
            mode, _ = self.entries[path]
            about, content = tarfile.TarInfo(path), self.content(path)
            about.mode = stat.S_IMODE(mode)
            if stat.S_ISDIR(mode):
                about.type, content = tarfile.DIRTYPE, b""
            elif stat.S_ISLNK(mode):
                about.type, about.linkname, content = tarfile.SYMTYPE, content.decode(), b""
            about.size = len(content)
            yield about.tobuf(tarfile.PAX_FORMAT)
            yield content + bytes(-len(content) % tarfile.BLOCKSIZE)
        yield bytes(2 * tarfile.BLOCKSIZE)


def _newc(name: str, mode: int, content: bytes, number: int) -> Iterator[bytes]:
    links = 2 if stat.S_ISDIR(mode) else 1
    device = (0, 0)
    if stat.S_ISCHR(mode):
        major, minor = content.split(b":")
        device, content = (int(major), int(minor)), b""
    fields = (number, mode, 0, 0, links, 0, len(content), 0, 0, *device, len(name.encode()) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    yield head + bytes(-len(head) % 4)
    yield content + bytes(-len(content) % 4)


def system(extra: Iterable[str] = ()) -> Tree:
    """This machine's interpreter, libraries and programs as a tree; `extra` names further programs."""
    tree = Tree()
    for path in DIRECTORIES:
        tree.directory(path, 0o1777 if path.endswith("tmp") else 0o755)
    for name, minor in (("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)):
        tree.device(f"dev/{name}", 1, minor)
    tree.device("dev/console", 5, 1)
    tree.text("etc/passwd", PASSWD)
    tree.text("etc/group", GROUP)
    tree.text("etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost\n")
    for file in FILES:
        if os.path.exists(file):
            tree.copy(file)
    _interpreter(tree)
    _distributions(tree)
    for program in (*PROGRAMS, *extra):
        executable = where(program)
        if executable:
            tree.copy(executable)
    _nginx_modules(tree)
    add_libraries(tree)
    return tree


def add_libraries(tree: Tree, below: Path | None = None) -> None:
    """The shared libraries that programs and extension modules of a tree are linked with.

    Those that stand below a directory are in the tree already, where they belong.
    """
    binaries = [entry for entry in (_binary(tree, path) for path in list(tree.entries)) if entry]
    folders = sorted({os.path.dirname(file) for file in binaries if below and Path(file).is_relative_to(below)})
    for library in shared_libraries(binaries, folders):
        if below is None or not Path(library).is_relative_to(below):
            tree.copy(library)


def witnesses() -> Iterator[Path]:
    """The files that change when the system would: programs, the interpreter, libraries' lists, and our own code."""
    from harness.kernels import guest

    own = (__file__, bytecode.__file__, guest.__file__)
    yield from (*map(Path, own), Path(os.path.realpath(sys.executable)))
    for program in PROGRAMS:
        file = where(program)
        if file:
            yield Path(os.path.realpath(file))
    yield from map(distributions.record_of, needed().values())


def needed() -> dict[NormalizedName, metadata.Distribution]:
    """The distributions that every guest has: what this package and its scenarios require."""
    return distributions.needed({"tcp-harness": ("scenarios",)}, without=OUTSIDE)


def modules() -> set[str]:
    """The modules of those distributions, by the first part of their names; this package among them."""
    owners = distributions.owners()
    own = set(needed())
    return {"harness", *(name for name, by in owners.items() if {canonicalize_name(each) for each in by} & own)}


def where(program: str) -> str | None:
    """The path of a program of this machine, also of one that is only in root's path."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")


def _binary(tree: Tree, path: str) -> str | None:
    """The file of an entry that is an ELF file."""
    file = tree.entries[path][1]
    if not isinstance(file, Path):
        return None
    with file.open("rb") as head:
        return str(file) if head.read(4) == b"\x7fELF" else None


def _interpreter(tree: Tree) -> None:
    """Python: the executable by every name it has, its standard library compiled, the environment's own files."""
    tree.copy(sys.executable)
    tree.copy(os.path.realpath(sys.executable))
    configuration = Path(sys.prefix, "pyvenv.cfg")
    if configuration.exists():
        tree.copy(configuration)
    for key in ("stdlib", "platstdlib"):
        _python_files(tree, Path(sysconfig.get_path(key)))


def _distributions(tree: Tree) -> None:
    """The libraries that this package and its scenarios need, with what says which they are (*.dist-info)."""
    for distribution in needed().values():
        for path in distributions.files_of(distribution):
            if LEFT_OUT.search(os.path.relpath(path, str(distribution.locate_file("")))):
                continue
            python_file(tree, path, by_pytest=distributions.has_plugin(distribution))
    for site in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for pointer in Path(site).glob("*.pth"):
            # That of setuptools imports a module which guests do not have: each interpreter there would complain.
            if pointer.name != "distutils-precedence.pth":
                tree.copy(pointer)


def _python_files(tree: Tree, directory: Path) -> None:
    for folder, folders, names in os.walk(directory):
        folders[:] = sorted(name for name in folders if not LEFT_OUT.search(name))
        for name in sorted(names):
            python_file(tree, Path(folder, name))


def python_file(tree: Tree, path: Path, *, by_pytest: bool = False) -> None:
    """A file; Python source with its compiled form, which the guest takes without looking at the source.

    `by_pytest`: what pytest makes of it as well, as it does with the modules of a distribution that has a plugin.
    """
    tree.copy(path)
    if path.suffix == ".py":
        if by_pytest and (made := bytecode.rewritten(str(path))):
            tree.text(*made)
        content = bytecode.compiled(path.read_bytes(), str(path), is_checked=False)
        if content:
            tree.text(bytecode.place_of(str(path)), content)


def _nginx_modules(tree: Tree) -> None:
    for folder in ("/usr/share/nginx/modules", "/usr/lib/nginx/modules"):
        for file in sorted(Path(folder).glob("*")):
            tree.copy(file)


def shared_libraries(binaries: Sequence[str], folders: Sequence[str] = ()) -> list[str]:
    """What the dynamic linker loads for them, itself included; it looks for libraries in these folders first."""
    environment = {"LC_ALL": "C", **({"LD_LIBRARY_PATH": ":".join(folders)} if folders else {})}
    files: set[str] = set()
    for start in range(0, len(binaries), AT_ONCE):
        words = ["ldd", *binaries[start : start + AT_ONCE]]
        listed = subprocess.run(words, check=False, capture_output=True, text=True, env=environment)
        files.update(re.findall(r"(?:=> |^\s+)(/\S+) \(0x", listed.stdout, re.MULTILINE))
    return sorted(files)


def build(tree: Tree, directory: Path) -> Path:
    """The tree's archive in a directory of such archives, made if it is not there, or is cut off."""
    file = directory / f"{tree.digest()}.cpio"
    if not whole.has_its_end(file):
        write(file, tree.cpio())
    return file


def build_once(tree: Callable[[], Tree], looks: str, directory: Path) -> Path:
    """The same for a tree that is not put together again as long as what it is made of looks the same."""
    remembered = directory / f"{looks}.digest"
    file = archive_of(remembered)
    if whole.has_its_end(file):
        with contextlib.suppress(OSError):  # it is somebody else's
            os.utime(file)
        return file
    file = build(tree(), directory)
    write(remembered, [file.stem.encode()])
    return file


def archive_of(remembered: Path) -> Path:
    """The archive that is kept for what looks like this; a path where nothing is, if that is gone or damaged."""
    try:
        digest = files.part(remembered.read_text(), str(remembered))
    except (OSError, ValueError, BadInput):
        return remembered.with_suffix(".none")
    return remembered.with_name(f"{digest}.cpio")


def write(file: Path, parts: Iterable[bytes]) -> None:
    """Write a file whole or not at all; Unsupported where there is no room or no right."""
    with places.writing(file.parent, "the guest's system"):
        files.write(file, parts)
