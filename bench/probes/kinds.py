"""The kinds of probes: how many of each, and what tries them."""

from __future__ import annotations

import functools
import itertools
import json
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from bench import faults
from bench.probes import sandbox, words
from bench.probes.judges import Wrong, judged
from bench.probes.sandbox import PROJECT, Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


BATCH = 500
# In seconds of each, where they share a process.
MOST = 20.0
# How bench.faults says it.
OF_FAULTS = (("a traceback", "traceback"), ("it has left", "left"), (".*(evidence|runs are kept)", "lost"))


class Probed(NamedTuple):
    """A probe that was tried: which of its kind, what it was, what was wrong."""

    number: int
    what: str
    wrong: Sequence[Wrong]


@dataclass(frozen=True)
class Kind:
    """`try_them(count, seed, directory)` tries so many; `directory` is empty, and for them alone."""

    about: str
    tried: int
    try_them: Callable[[int, int, Path], Iterator[Probed]]


def _words(count: int, seed: int, directory: Path) -> Iterator[Probed]:
    words.project(directory)
    for number, one in enumerate(words.typed(count, seed)):
        yield Probed(number, one.shown, words.tried(one, directory))


def _in_one_process(name: str, count: int, seed: int, directory: Path) -> Iterator[Probed]:
    """Batches of probes that share a process, and a sandbox: what stands elsewhere when a batch ends counts once."""
    sandbox.lay(directory)
    for batch, first in enumerate(range(0, count, BATCH)):
        size = min(BATCH, count - first)
        argv = (sys.executable, "-m", "bench.probes.inside", name, str(batch), str(size), str(seed))
        environment = sandbox.environment(PYTHONPATH=str(PROJECT))
        ended = sandbox.run(Program(argv, environment, deadline=MOST * size), directory)
        last = ended.said.rstrip().rpartition("\n")[2]
        if ended.status != 0 or not last.startswith("["):
            yield Probed(first, f"batch {batch}", [*judged(ended, {0}), Wrong("lost", ended.said[-2500:])])
            continue
        *found, (tried, *_) = json.loads(last)
        wrong: dict[int, list[Wrong]] = {}
        shown = {number: what for number, what, _, _ in found}
        for number, _, kind, seen in found:
            wrong.setdefault(number, []).append(Wrong(kind, seen))
        # Of what is said only the last line is this program's own, the rest the command's.
        wrong.setdefault(0, []).extend(judged(ended._replace(said=""), {0}))
        for number in range(tried):
            yield Probed(first + number, shown.get(number, f"batch {batch}"), wrong.get(number, ()))


def _faults(count: int, _: int, directory: Path) -> Iterator[Probed]:
    """Each fault of bench.faults, and from the first again."""
    for number, fault in enumerate(itertools.islice(itertools.cycle(faults.FAULTS), count)):
        place = directory / str(number)
        place.mkdir()
        why = faults.tried(fault, place)
        kind = next((kind for said, kind in OF_FAULTS if re.match(said, why)), "status")
        yield Probed(number, fault.what, [Wrong(kind, why)] if why else ())


def _isolation(count: int, _: int, directory: Path) -> Iterator[Probed]:
    """The tests of labs, beside a picture of the machine before and after."""
    sandbox.lay(directory)
    for number in range(count):
        argv = (sys.executable, "-m", "bench.probes.isolation")
        environment = sandbox.environment(PYTHONPATH=str(PROJECT))
        ended = sandbox.run(Program(argv, environment, deadline=1800), directory)
        wrong = judged(ended, {0})
        yield Probed(number, ended.said.rstrip().rpartition("\n")[2], wrong)


ALL = {
    "words": Kind("command lines, options, environments", 1030, _words),
    "evidence": Kind(
        "evidence, to report as HTML, KTAP, JSON, KCIDB", 13_600, functools.partial(_in_one_process, "evidence")
    ),
    "comparisons": Kind(
        "evidence, to compare, history, claims", 12_000, functools.partial(_in_one_process, "comparisons")
    ),
    "claims": Kind("files of claims, documents, corrections", 4000, functools.partial(_in_one_process, "claims")),
    "captures": Kind("captures", 3000, functools.partial(_in_one_process, "captures")),
    "packages": Kind("packages, archives, signatures", 60, functools.partial(_in_one_process, "packages")),
    "faults": Kind("what fails in the middle of a run", 45, _faults),
    "isolation": Kind("the tests of labs, on a machine that is looked at", 1, _isolation),
}
