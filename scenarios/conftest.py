"""How the scenarios are run: what is written lies below out/."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_TEMPORARY = Path(__file__).parents[1] / "out" / "tmp"
# pytest's own temporary folders, xdist's among them. In a clone of somebody else's, which cannot be written, they are
# where pytest puts them.
with contextlib.suppress(OSError):
    _TEMPORARY.mkdir(parents=True, exist_ok=True)
    if os.access(_TEMPORARY, os.W_OK):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_TEMPORARY))
