"""Whether what was made for the cache is as long as it was then.

Whatever is made there appears whole or not at all. But the power can fail before a disk has all of it, a copy of a
cache can be interrupted, and a file system can be repaired: then it is cut off, and each machine made of it fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

# Of a directory: the sizes of its files in bytes, by their paths below it.
SIZES = "sizes.json"
# How an archive that Linux unpacks ends (usr/gen_init_cpio.c, cpio_trailer()).
END = b"TRAILER!!!\0\0\0\0"


def remember(directory: Path) -> None:
    """Keep how long the files of a directory are, in the directory."""
    sizes = {str(file.relative_to(directory)): file.stat().st_size for file in sorted(directory.rglob("*"))
             if file.is_file()}  # fmt: skip
    (directory / SIZES).write_bytes(msgspec.json.encode(sizes))


def is_whole(directory: Path) -> bool:
    """Whether the files of a directory are as long as they were; of one that has no sizes, nothing is known."""
    try:
        sizes = msgspec.json.decode((directory / SIZES).read_bytes(), type=dict[str, int])
        return all((directory / path).stat().st_size == size for path, size in sizes.items())
    except FileNotFoundError as error:
        return bool(error.filename == str(directory / SIZES))
    except (OSError, ValueError):
        return False


def has_its_end(archive: Path) -> bool:
    """Whether an archive of files for a machine is there and ends as they all do."""
    try:
        with archive.open("rb") as opened:
            opened.seek(-len(END), 2)
            return opened.read() == END
    except OSError:  # also for a file that is shorter
        return False
