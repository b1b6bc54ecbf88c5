"""Plugins of pytest that others have in their environment: .ci/install puts them into a directory of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

DIRECTORY = Path(sys.prefix, "plugins")
MISSING = "" if DIRECTORY.is_dir() else f"{DIRECTORY} is not there: make testing"
# What a process has to have in its environment, to have the plugins in its own.
PYTHONPATH = os.pathsep.join([str(DIRECTORY), *filter(None, [os.environ.get("PYTHONPATH")])])
