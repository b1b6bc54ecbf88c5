"""How long it may take, and where what was found is kept."""

from __future__ import annotations

import os
import time
from pathlib import Path

from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase, InMemoryExampleDatabase

# What `make test` gives all targets together, in seconds; `make fuzz FUZZ_SECONDS=3600` gives more.
SECONDS = 300.0
KEPT = Path("out/fuzz")


def seconds() -> float:
    """How long all of it may take."""
    return float(os.environ.get("FUZZ_SECONDS") or SECONDS)


def kept(name: str) -> ExampleDatabase:
    """Where Hypothesis keeps the examples of a target that have failed; nowhere in a clone that is read-only."""
    place = KEPT / "examples" / name.replace(" ", "-")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return InMemoryExampleDatabase()
    return DirectoryBasedExampleDatabase(place)


class Deadline:
    """A time that ends, by the processor's clock: on a busy machine as much is tried as on an idle one."""

    def __init__(self, seconds: float) -> None:
        self._until = time.process_time() + seconds
        self.tried = 0

    def is_over(self) -> bool:
        """Whether it has ended."""
        return time.process_time() > self._until
