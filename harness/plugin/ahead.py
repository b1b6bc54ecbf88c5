"""What is done ahead of need: in a process that workers are forks of, and in a machine before its state is saved.

Each worker would do it for itself otherwise, in its first test: in an emulated machine a good part of a second.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import platform
import warnings
from typing import TYPE_CHECKING

from harness.errors import Renamed

if TYPE_CHECKING:
    import pytest

# What tests, and plugins as they begin, import when they need it.
LATER = (
    *("cmd", "email.parser", "faulthandler", "pdb"),
    *("harness.claims.record", "harness.evidence.directory", "harness.evidence.failed"),
    *("harness.plugin.attendance", "harness.plugin.summary", "harness.plugin.telling"),
    *("pyroute2", "scapy.layers.inet", "scapy.layers.inet6"),
)
# Of our own, what scenarios import; and what is run, not imported.
OWN = tuple(f"harness.{room}." for room in ("claims", "evidence", "instruments", "lab", "laws", "observe", "traffic"))
PROGRAMS = ".programs."


def prepare(config: pytest.Config) -> None:
    """Import what is imported later, and read and put together what each worker would for itself."""
    import harness

    own = (
        each.name
        for each in pkgutil.walk_packages(harness.__path__, "harness.")
        if each.name.startswith(OWN) and PROGRAMS not in each.name
    )
    # A module whose name has changed says so when it is imported: to those who need it, not here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Renamed)
        for name in (*LATER, *own):
            # Whatever is wrong with it, whoever needs it is told.
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    from harness.observe.filters import compile_filter
    from harness.plugin.claims import malformed

    malformed(config)
    compile_filter("state established")
    # Each worker of pytest-xdist says what it is; for that, this reads the interpreter through. It remembers it.
    platform.platform()
