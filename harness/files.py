"""Files that are written, and names that become parts of paths: one way for all.

A regular file appears whole or not at all: it is made without a name, gets one beside the other, and takes its place.
A process that is killed meanwhile leaves nothing. A link stays, and what it leads to is replaced. A device, a pipe, and
whatever a process has open (/dev/stdout, /proc/self/fd/N) is written into.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import BufferedReader

# What names releases, packages and claims: no separator, nothing that a shell or a terminal takes for something else.
PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+~:@=-]*")
LONGEST = 200
# Of what is read at once, in bytes: evidence of a claim on all kernels has some hundred kilobytes.
LARGEST = 256 << 20
# A file system has no files without a name: open(2), O_TMPFILE.
NO_SUCH_THING = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)
# In links; the kernel follows as many (path_resolution(7)).
LINKS = 40
# Removes a directory when its standard input ends, which is when nobody holds the other end any more.
KEEPER = """
trap "" HUP INT QUIT TERM
cat >/dev/null
# What dies with us may be writing there still.
for _ in 1 2 3 4 5; do rm -rf -- "$1" && break; sleep 1; done
"""


def part(name: str, what: str) -> str:
    """A name that somebody else has chosen, as one part of a path; BadInput for what could lead anywhere else.

    `what` says whose name it is, "the release of the kernel FILE".
    """
    if len(name) > LONGEST or not PART.fullmatch(name):
        raise BadInput(f"{what} is {name[:LONGEST]!r}: a name of letters, digits and _.+~:@=- was to be there")
    return name


def below(directory: Path, path: str, what: str) -> Path:
    """A path that somebody else has chosen, below a directory; BadInput for one that leads out of it."""
    parts = path.split("/")
    if not path or "\0" in path or any(each in ("", ".", "..") for each in parts):
        raise BadInput(f"{what} has {path[:LONGEST]!r}, which leads out of its place")
    return directory.joinpath(*parts)


def there_is(word: str | Path) -> bool:
    """Whether a word is the path of anything; one that cannot be a path, as it is too long, is not."""
    return os.path.exists(word)  # noqa: PTH110 - pathlib raises OSError for it, until Python 3.14


def is_directory(word: str | Path) -> bool:
    """The same of a directory."""
    return os.path.isdir(word)  # noqa: PTH112


def is_file(word: str | Path) -> bool:
    """The same of a regular file."""
    return os.path.isfile(word)  # noqa: PTH113


def opened(file: Path) -> BufferedReader:
    """A regular file, to read; OSError for anything else, which may have nothing to read for ever, or no end."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
        raise OSError(errno.EINVAL, "it is no regular file; copy what it gives into a file", str(file))
    return open(descriptor, "rb")  # noqa: PTH123 - a descriptor


def content(file: Path, most: int = LARGEST) -> bytes:
    """What a regular file has; OSError for anything else, and for more than so many bytes."""
    with opened(file) as stream:
        read = stream.read(most + 1)
    if len(read) > most:
        raise OSError(errno.EFBIG, f"it has more than {most >> 20} MB", str(file))
    return read


def write(file: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file; OSError where that is not possible. What is there keeps its mode."""
    pieces = [content] if isinstance(content, bytes) else content
    if _is_written_into(file):
        _into(file, pieces)
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        _replace(file.resolve(), pieces)


def refuse_unwritable(file: Path, named: str) -> None:
    """BadInput, with what the user has named, for a file that write() could not write; nothing is left of the trial."""
    with saying(file, named):
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a directory")
        if _is_written_into(file):
            if not os.access(file, os.W_OK, effective_ids=True):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        _try_name(file.resolve())


def refuse_unwritable_directory(directory: Path, named: str) -> None:
    """The same for a directory that files are to be written to, which need not be there yet."""
    with saying(directory, named):
        if directory.exists() and not directory.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "it is no directory")
        _try_name(directory.resolve() / "file")


@contextlib.contextmanager
def saying(file: Path, named: str) -> Iterator[None]:
    """For the time of writing: what goes wrong becomes BadInput, one line with what the user has named."""
    try:
        yield
    except (FileExistsError, NotADirectoryError):
        in_the_way = next((each for each in (file, *file.parents) if each.exists() and not each.is_dir()), file.parent)
        raise BadInput(f"{named}: cannot be written: {in_the_way} is no directory") from None
    except (OSError, ValueError) as error:
        why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise BadInput(f"{named}: cannot be written: {why}") from None


def _try_name(file: Path) -> None:
    """Make a file of a name as long as this one, as near to it as there is a directory, and remove it."""
    with contextlib.suppress(FileNotFoundError):
        file.lstat()  # a name that is too long, or no directory before its end
    place = file.parent
    while not place.exists():
        place = place.parent
    descriptor, name = tempfile.mkstemp(prefix=".harness-", dir=place)
    os.close(descriptor)
    Path(name).unlink()


def _is_written_into(file: Path) -> bool:
    """Whether a path leads to something that is there and no regular file, or to what a process has open."""
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or _is_open_somewhere(file)


def _is_open_somewhere(file: Path) -> bool:
    """Whether its links lead through /proc/PID/fd."""
    for _ in range(LINKS):
        parent = os.path.realpath(file.parent)
        if re.match(r"/proc/(\d+|self|thread-self)(/|$)", parent):
            return True
        if not file.is_symlink():
            return False
        file = Path(parent, file.readlink())
    return False


def _into(file: Path, pieces: Iterable[bytes]) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC)
    with open(descriptor, "wb") as stream:  # noqa: PTH123 - a descriptor
        for piece in pieces:
            stream.write(piece)


def _replace(file: Path, pieces: Iterable[bytes]) -> None:
    beside = file.with_name(f".harness-{secrets.token_hex(8)}")
    descriptor, named = _without_a_name(beside)
    try:
        with open(descriptor, "wb") as stream:  # noqa: PTH123 - a descriptor
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(descriptor, stat.S_IMODE(file.stat().st_mode))
            for piece in pieces:
                stream.write(piece)
            stream.flush()
            if not named:
                # With a descriptor, for otherwise Python asks by link(2), which follows no link (os_link_impl()).
                os.link(f"/proc/self/fd/{descriptor}", beside, src_dir_fd=descriptor, follow_symlinks=True)
                named = True
        beside.replace(file)
    except BaseException:
        if named:
            with contextlib.suppress(FileNotFoundError):
                beside.unlink()
        raise


def _without_a_name(beside: Path) -> tuple[int, bool]:
    """A new file beside another one, and whether it has a name already: not every file system does without."""
    try:
        return os.open(beside.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666), False
    except OSError as error:
        if error.errno not in NO_SUCH_THING:
            raise
    return os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), True


@contextlib.contextmanager
def folder(prefix: str) -> Iterator[Path]:
    """A directory for this user alone, which goes with the block, and with this process, however that ends."""
    directory = tempfile.mkdtemp(prefix=prefix)
    keeper = subprocess.Popen(
        ["/bin/sh", "-c", KEEPER, "sh", directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    try:
        yield Path(directory)
    finally:
        assert keeper.stdin is not None
        keeper.stdin.close()
        keeper.wait()
