"""What the scenarios write lies below out/: pytest's own temporary folders, xdist's among them, as well."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_TEMPORARY = Path(__file__).parents[1] / "out" / "tmp"
# A clone of somebody else's, which cannot be written, does as pytest does.
with contextlib.suppress(OSError):
    _TEMPORARY.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_TEMPORARY))
