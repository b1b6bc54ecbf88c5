"""How long it may take, and where what was found is kept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase, InMemoryExampleDatabase

from tests.fuzz.targets import TARGETS

# What `make test` gives all targets together, in seconds; `make fuzz FUZZ_SECONDS=3600` gives more.
SECONDS = 300.0
KEPT = Path("out/fuzz")
HERE = Path(__file__).parent
# Where .ci/install puts atheris.
FUZZER = Path(sys.prefix) / "fuzz"


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


@dataclass(frozen=True)
class Ended:
    """What came of fuzzing a target: the status of the fuzzer, what it said, and its numbers in a line."""

    returncode: int
    said: str
    stats: str


def lacking() -> str:
    """Why there is no fuzzer here; "" if there is one."""
    return "" if FUZZER.is_dir() else "atheris is not installed (.ci/install fuzzing), or has no wheel for this Python"


def fuzz(name: str, seconds: float, *, keep: bool = False) -> Ended:
    """Fuzz a target for so many seconds, in its own process; with `keep` the least corpus goes into the project."""
    corpus, crashes, kept_corpus = KEPT / "corpus" / name, KEPT / "crashes", HERE / "corpus" / name
    for place in (corpus, crashes):
        place.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    known = [str(kept_corpus)] if kept_corpus.is_dir() else []
    limits = [f"-max_total_time={max(1, round(seconds))}", "-timeout=60", "-rss_limit_mb=2048", "-max_len=65536"]
    ended = _fuzzer(name, str(corpus), *known, *limits, f"-artifact_prefix={crashes}/{name}-", "-print_final_stats=1")
    if keep and not ended.returncode:
        kept_corpus.mkdir(parents=True, exist_ok=True)
        _fuzzer(name, "-merge=1", "-max_len=2048", str(kept_corpus), str(corpus))
    numbers = re.findall(r"^stat::(number_of_executed_units|new_units_added): +(\d+)", ended.stderr, re.MULTILINE)
    said = ended.stderr[-6000:]
    return Ended(ended.returncode, said, ", ".join(f"{what.replace('_', ' ')} {number}" for what, number in numbers))


def _fuzzer(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    paths = [str(FUZZER), str(HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz.fuzzer", name, *words],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}, check=False, capture_output=True, text=True,
        errors="replace", stdin=subprocess.DEVNULL,
    )  # fmt: skip
