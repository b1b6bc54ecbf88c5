"""Where kernels, images and snapshots are kept: the user's cache directory, or where HARNESS_CACHE says."""

from __future__ import annotations

import os
from pathlib import Path

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
