"""Registers the plugin for a checkout that is not installed; where it is, pytest knows it by the same name."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

pytest_plugins = ["harness.plugin"]

# pytest's own temporary folders, xdist's among them, belong to the output too: nothing of a run lies elsewhere. A clone
# of somebody else's, which cannot be written, does as pytest does.
_TEMPORARY = Path(__file__).parent / "out" / "tmp"
with contextlib.suppress(OSError):
    _TEMPORARY.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_TEMPORARY))
