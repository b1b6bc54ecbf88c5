"""What is kept so that machines start at once: what it costs, who uses it, and what goes when it is too much.

Whatever machines are made of is named by its contents. Who uses a file holds a lock on it (flock(2)) that ends with the
process: a file that is in use is never removed. How large all of it may become says HARNESS_CACHE_LIMIT; what was not
used for the longest time goes first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from harness.errors import BadInput
from harness.kernels import image, places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LIMIT = "HARNESS_CACHE_LIMIT"
# In bytes: some twelve kernels, each with this package and a project. On a small disk, so much of it.
DEFAULT_LIMIT, OF_THE_DISK = 20 << 30, 0.25
_UNITS = {"": 1 << 20, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
# Beside a file: what is known of it (JSON), and what its machine's console said until it was saved.
ABOUT, CONSOLE = ".about", ".console"


class About(msgspec.Struct, frozen=True):
    """What is known of a file: what it is for, how its machine runs, how many seconds it took to make.

    Of a state that was made from another one also `base`, which says from which; where a project was delivered, also
    `files`, the digests of those by path.
    """

    text: str
    mode: str = ""
    seconds: float = 0.0
    base: str = ""
    files: dict[str, str] = {}


@dataclass(frozen=True)
class Entry:
    """Something that is kept: a file, or a directory.

    `size` in bytes, as it stands on the disk; `used` is when it was used last, by the clock of the system;
    `goes_by_itself` is whether it goes when all is more than the limit.
    """

    kind: str
    path: Path
    size: int
    used: float
    about: About = field(default_factory=lambda: About(""))
    goes_by_itself: bool = True

    @property
    def megabytes(self) -> int:
        """Its size, rounded up."""
        return -(-self.size // 10**6)


# Who uses what.


def held(file: Path, make: Callable[[], None], *, is_whole: Callable[[Path], bool] = Path.exists) -> IO[bytes]:
    """A file of the cache, made if it is not there, or not whole; nobody removes it as long as this is open."""
    if file.exists() and not is_whole(file):
        with only_one(file):
            if not is_whole(file):
                file.unlink(missing_ok=True)
    while True:
        try:
            return held_if_there(file)
        except FileNotFoundError:
            with only_one(file):
                if not file.exists():
                    make()


def held_if_there(file: Path) -> IO[bytes]:
    """The same for a file that is not made; FileNotFoundError if it is not there."""
    opened = file.open("rb")
    with contextlib.suppress(OSError):  # where a file system has no locks, nothing of ours is removed either
        fcntl.flock(opened, fcntl.LOCK_SH)
    if not _is_still(opened, file):
        opened.close()
        raise FileNotFoundError(file)
    if file.is_relative_to(places.cache()):  # and no image of the user's own
        with contextlib.suppress(OSError):  # it is somebody else's
            os.utime(opened.fileno())
    return opened


@contextlib.contextmanager
def only_one(file: Path) -> Iterator[None]:
    """Several processes want a file at once: one makes it, the others wait for it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with (file.parent / f".{file.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove_unused(path: Path) -> bool:
    """Remove what nobody uses, with what stands beside it; False, and nothing is done, if somebody does."""
    if path.is_dir():
        return _without_users(path / "image") and _remove_directory(path)
    try:
        with path.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        pass
    except OSError:  # in use, or somebody else's
        return False
    for end in (ABOUT, CONSOLE):
        beside(path, end).unlink(missing_ok=True)
    return True


def _without_users(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _remove_directory(path: Path) -> bool:
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def _is_still(opened: IO[bytes], file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened.fileno()), file.stat())
    except FileNotFoundError:
        return False


# What is known of a file.


def beside(file: Path, end: str) -> Path:
    """The file beside another one."""
    return file.with_name(file.name + end)


def remember(file: Path, about: About) -> None:
    """Keep what is known of a file beside it."""
    image.write(beside(file, ABOUT), [msgspec.json.encode(about)])


def about(file: Path) -> About:
    """What is known of a file."""
    try:
        return msgspec.json.decode(beside(file, ABOUT).read_bytes(), type=About)
    except (OSError, msgspec.MsgspecError):
        return About("")


def usually(mode: str, *, with_project: bool) -> float:
    """How many seconds it took before to make a state, the median; 0 if none of this mode is known."""
    known = (about(file.with_name(file.name.removesuffix(ABOUT))) for file in places.states().glob(f"*{ABOUT}"))
    took = [each.seconds for each in known if each.mode == mode and _is_meant(each, with_project) and each.seconds]
    return statistics.median(took) if took else 0.0


def _is_meant(known: About, with_project: bool) -> bool:
    """Whether a state is of a machine that has a project, or that has just booted."""
    return bool(known.files) if with_project else not known.base


# What there is.


def entries() -> list[Entry]:
    """All that is kept, what was used last first."""
    return sorted(_found(), key=lambda entry: -entry.used)


def _found() -> Iterator[Entry]:
    for file in _files(places.states()):
        yield _entry("state", file)
    for file in _files(places.images()):
        if file.suffix == ".initrd":
            yield _entry("first files", file)
        elif file.suffix == ".cpio":
            yield _entry("system", file)
    for file in _files(places.worlds()):
        if file.suffix == ".tar":
            yield _entry("world", file)
    for folder in _folders(places.cache() / "packages"):
        yield _entry("package", folder, goes_by_itself=False)
    for folder in _folders(places.kernels()):
        yield _entry("kernel", folder, About(folder.name), goes_by_itself=False)


def _files(directory: Path) -> Iterator[Path]:
    for file in sorted(directory.glob("[!.]*")):
        if file.is_file() and not file.name.endswith((ABOUT, CONSOLE)):
            yield file


def _folders(directory: Path) -> Iterator[Path]:
    return (folder for folder in sorted(directory.glob("[!.]*")) if folder.is_dir())


def _entry(kind: str, path: Path, known: About | None = None, *, goes_by_itself: bool = True) -> Entry:
    files = [path, *(_below(path) if path.is_dir() else (beside(path, end) for end in (ABOUT, CONSOLE)))]
    size = sum(_blocks(file) for file in files)
    used = 0.0
    with contextlib.suppress(OSError):
        used = (path / "image" if path.is_dir() else path).stat().st_mtime
    return Entry(kind, path, size, used, known or about(path), goes_by_itself)


def _below(directory: Path) -> Iterator[Path]:
    """All that is in a directory; what somebody removes meanwhile is passed over, which Path.rglob() does not do."""
    for place, folders, names in os.walk(directory):
        yield from (Path(place, name) for name in (*folders, *names))


def _blocks(file: Path) -> int:
    """What a file takes of the disk, in bytes."""
    try:
        return file.stat().st_blocks * 512
    except OSError:
        return 0


# What goes.


def limit() -> int:
    """How large what goes by itself may become, in bytes; BadInput for a HARNESS_CACHE_LIMIT that is no size."""
    if LIMIT in os.environ:
        return size_of(os.environ[LIMIT], LIMIT)
    with contextlib.suppress(OSError):
        return min(DEFAULT_LIMIT, int(shutil.disk_usage(places.cache()).total * OF_THE_DISK))
    return DEFAULT_LIMIT


def size_of(text: str, written: str) -> int:
    """A size in bytes: "500M", "20G", "800" (megabytes); BadInput, which says where it was written, for none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", text.strip().upper())
    if match is None:
        raise BadInput(f"{written} {text}: write a size as 500M or 20G")
    return int(float(match[1]) * _UNITS[match[2]])


def make_room(most: int) -> None:
    """Remove what was not used for the longest time, until what goes by itself has no more than so many bytes."""
    mine = [entry for entry in entries() if entry.goes_by_itself]
    for entry in too_much(mine, most):
        remove_unused(entry.path)


def too_much(listed: Iterable[Entry], most: int) -> list[Entry]:
    """What has to go so that no more than so many bytes stay, what was not used for the longest time first."""
    newest_first = sorted(listed, key=lambda entry: -entry.used)
    left = sum(entry.size for entry in newest_first)
    gone = []
    while left > most and newest_first:
        entry = newest_first.pop()
        left -= entry.size
        gone.append(entry)
    return gone


def sweep() -> None:
    """Remove what is of no use without a file that is gone: locks, what was known of it, and its digest."""
    long_ago = time.time() - 24 * 3600.0
    for directory in (places.states(), places.images()):
        for left in directory.glob("*"):
            with contextlib.suppress(OSError):
                if left.stat().st_mtime < long_ago and _is_alone(left):
                    left.unlink()


def _is_alone(file: Path) -> bool:
    if file.name.endswith(".lock"):
        return not file.with_name(file.name.removeprefix(".").removesuffix(".lock")).exists()
    for end in (ABOUT, CONSOLE):
        if file.name.endswith(end):
            return not file.with_name(file.name.removesuffix(end)).exists()
    return file.suffix == ".digest" and not image.archive_of(file).exists()
