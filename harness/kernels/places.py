"""Where kernels, images and snapshots are kept: the user's cache directory, or where HARNESS_CACHE says."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE = "HARNESS_CACHE"
SWEPT = (
    *("kernels/.fetch-*", "packages/.fetch-*", "*/.harness-*", "states/.*.part"),
    "worlds/*",
)


def cache() -> Path:
    """The directory for what can be made again; it need not exist yet."""
    from platformdirs import user_cache_path

    return Path(os.environ[CACHE]) if CACHE in os.environ else user_cache_path("tcp-harness")


def kernels() -> Path:
    """Where kernels are."""
    return cache() / "kernels"


def indices() -> Path:
    """Where apt keeps what it knows of the archive."""
    return cache() / "apt"


def images() -> Path:
    """Where the guests' systems are."""
    return cache() / "images"


def worlds() -> Path:
    """Where what tests need beside their projects is, an archive for each combination."""
    return cache() / "worlds"


def states() -> Path:
    """Where the states of machines are that others are restored from."""
    return cache() / "states"


@contextlib.contextmanager
def writing(where: Path, what: str) -> Iterator[None]:
    """For the time of writing: no room and no right become Unsupported, with what to do about it."""
    try:
        yield
    except OSError as error:
        raise Unsupported(
            f"{where}: {what} cannot be kept there: {error.strerror or error}; "
            f"make room, or name another place: {CACHE}=DIRECTORY"
        ) from None


def sweep(*, older_than: float = 24 * 3600.0) -> None:
    """Remove what was being written when its process was killed: whatever has another name while it is made.

    Also what was delivered to no machine for a day: it is made again when it is wanted.
    """
    made_long_ago = time.time() - older_than
    for pattern in SWEPT:
        for left in cache().glob(pattern):
            with contextlib.suppress(OSError):
                if left.stat().st_mtime > made_long_ago:
                    continue
                shutil.rmtree(left) if left.is_dir() else left.unlink()
