"""How the scenarios are run: what is written lies below out/; and what some of them need of the kernel."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import UnknownSysctl, Unsupported

if TYPE_CHECKING:
    from harness.lab import Pair

_CLONE = Path(__file__).parents[1]
_TEMPORARY = _CLONE / "out" / "tmp"
# pytest's own temporary folders, xdist's among them. In a clone of somebody else's, which cannot be written, they are
# where pytest puts them; so they are for scenarios that came with the package.
with contextlib.suppress(OSError):
    if (_CLONE / "pyproject.toml").is_file():
        _TEMPORARY.mkdir(parents=True, exist_ok=True)
    if os.access(_TEMPORARY, os.W_OK):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_TEMPORARY))


@pytest.fixture
def syn_cookies(pair: Pair) -> None:
    """What this test is about needs CONFIG_SYN_COOKIES."""
    try:
        assert pair.server.sysctl["net.ipv4.tcp_syncookies"]
    except UnknownSysctl as missing:
        raise Unsupported(f"the running kernel is built without CONFIG_SYN_COOKIES: {missing}") from None
