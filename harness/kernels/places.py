"""Where kernels, images and snapshots are kept: the user's cache directory, or where HARNESS_CACHE says."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE = "HARNESS_CACHE"


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


def states() -> Path:
    """Where the states of machines are that others are restored from."""
    return cache() / "states"


@contextlib.contextmanager
def kept(where: Path, what: str) -> Iterator[None]:
    """For the time of writing: no room and no right become Unsupported, with what to do about it."""
    try:
        yield
    except OSError as error:
        raise Unsupported(
            f"{where}: {what} cannot be kept there: {error.strerror or error}; "
            f"make room, or name another place: {CACHE}=DIRECTORY"
        ) from None
