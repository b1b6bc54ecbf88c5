"""python -m bench.probes.inside KIND BATCH COUNT SEED: probes of files that somebody hands over, in one process.

It runs in a sandbox, through the entry points of the command. Prints one line of JSON: what was wrong with which.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from bench.probes.judges import TRACEBACK, Wrong
from bench.probes.words import small_scenarios
from harness.cli import cli, plain
from harness.errors import HarnessError
from harness.evidence.codec import encode_file
from harness.evidence.types import Verdict
from tests.fuzz import made
from tests.fuzz.ways import FILE, WAYS, lay
from tests.report import made_evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

# In seconds, of each.
DEADLINE = 30.0
STATUSES = (0, 1, 2)
KEPT = "queue.kept"
OF_EVIDENCE = ("report", "ktap", "kcidb", "json")
OF_COMPARISONS = tuple(
    way for way, (strategy, _, _) in WAYS.items() if strategy is made.evidence and way not in OF_EVIDENCE
)
OF_CLAIMS = ("claims", "documents", "register", "corrections")
# What shows each claim, or each that differs.
SHOW_ALL = (*OF_EVIDENCE, "compare", "compare verdicts", "compare on a page")


class Probe(NamedTuple):
    """What is typed, the bytes that it is about, and what puts them where they stand."""

    words: Sequence[str]
    content: bytes
    lay: Callable[[Path, bytes], None]
    kept: str = ""


class Hangs(BaseException):
    """It has not ended in time: no handler of Exception takes it."""


def ends(words: Sequence[str]) -> tuple[str, list[Wrong]]:
    """What a command line of ours says, here, and what is wrong with how it ends."""
    signal.setitimer(signal.ITIMER_REAL, DEADLINE)
    try:
        result = CliRunner().invoke(cli, list(words))
    except Hangs:
        return "", [Wrong("hang", traceback.format_exc()[-1500:])]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    error = result.exception
    if error is None or isinstance(error, SystemExit):
        status = result.exit_code
    elif isinstance(error, HarnessError):
        status = 2
        if not plain(str(error)).strip():
            return "", [Wrong("status", f"{type(error).__name__} says nothing")]
    else:
        return "", [Wrong("traceback", "".join(traceback.format_exception(error))[-2500:])]
    wrong = []
    if TRACEBACK.search(result.output):
        wrong.append(Wrong("traceback", result.output[-2500:]))
    if status not in STATUSES:
        wrong.append(Wrong("status", f"{status}: {result.output[-500:]}"))
    return (result.output if status < 2 else ""), wrong


def tried(probe: Probe, place: Path) -> list[Wrong]:
    """What is wrong with what a command makes of it, in an empty directory."""
    probe.lay(place, probe.content)
    os.chdir(place)
    before = _files(place)
    said, wrong = ends(probe.words)
    after = _files(place)
    if gone := [path for path, content in before.items() if after.get(path) != content]:
        wrong.append(Wrong("outside", ", ".join(gone)))
    written = [content.decode(errors="replace") for path, content in after.items() if path not in before]
    if said and probe.kept and probe.kept not in said + "".join(written):
        wrong.append(Wrong("lost", said[-500:]))
    return wrong


def _files(place: Path) -> dict[str, bytes]:
    return {
        str(file): file.read_bytes() for file in sorted(place.rglob("*")) if file.is_file() and not file.is_symlink()
    }


def mutated(content: bytes, number: int) -> bytes:
    """The bytes with some drawn, cut out, doubled, or in another's place."""
    chance, spoilt = random.Random(number), bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        place = chance.randrange(len(spoilt) + 1)
        length = chance.choice((1, 1, 2, 4, 8, 64))
        other = chance.choice((b"", chance.randbytes(length), bytes(length), b"\xff" * length, bytes(spoilt[-length:])))
        spoilt[place : place + chance.choice((0, length))] = other
    return bytes(spoilt[: chance.randrange(len(spoilt) + 1)] if chance.random() < 0.1 else spoilt)


def sound(name: str = "queue.limit", **parts: Any) -> bytes:
    """Evidence as a run leaves it: it held on 6.1.2, and no more on 6.12.3."""
    runs = [
        made_evidence.run(params=family, version=version, kernel_name=version, verdict=verdict, **parts)
        for version, verdict in (("6.1.2", Verdict.HOLDS), ("6.12.3", Verdict.REFUTED))
        for family in ("ipv4", "ipv6")
    ]
    return encode_file(made_evidence.claim(name), runs)


def near() -> st.SearchStrategy[bytes]:
    """Evidence that was sound, and has other values somewhere, or other bytes."""
    whole: st.SearchStrategy[Any] = st.builds(json.loads, st.just(sound()))
    once = made.spoilt(whole)
    values = once | made.spoilt(once) | made.spoilt(made.spoilt(once))
    bytes_ = st.integers(0, 1 << 40).map(lambda number: mutated(sound(), number))
    return values.map(msgspec.json.encode) | bytes_


def of_ways(ways: Sequence[str]) -> st.SearchStrategy[Probe]:
    """Files that are made, and what is typed about each."""

    def probe(way: str, content: bytes | str) -> Probe:
        data = content if isinstance(content, bytes) else content.encode(errors="replace")

        def put(place: Path, what: bytes) -> None:
            small = place.with_name("small")
            if not small.exists():  # the project's own are many to read
                small_scenarios(small)
            lay(place, way, what, small)
            if not (place / "scenarios").exists():
                (place / "scenarios").symlink_to(small)
            if way not in OF_CLAIMS:
                (place / "e" / f"{KEPT}.json").write_bytes(sound(KEPT))

        return Probe(WAYS[way][2], data, put, KEPT if way in SHOW_ALL else "")

    each = []
    for way in ways:
        strategy = WAYS[way][0]
        content = strategy() | near() if strategy is made.evidence else strategy()
        each.append(st.builds(probe, st.just(way), content))
    return st.one_of(each)


def captures() -> st.SearchStrategy[Probe]:
    """Captures that were sound."""

    def put(place: Path, content: bytes) -> None:
        (place / "e").mkdir()
        (place / "e" / "c.pcapng").write_bytes(content)
        (place / "e" / FILE).write_bytes(sound(packets="c.pcapng"))

    words = st.sampled_from(
        (
            ("report", "e", "-o", "out.html"),
            ("diagnose", "e/c.pcapng"),
            ("compare", "6.1.2", "6.12.3", "--evidence", "e", "--exact"),
        )
    )
    content = st.integers(0, 1 << 40).map(lambda number: mutated(made_evidence.dropped_ack(), number))
    return st.builds(
        lambda said, data: Probe(said, data, put, "queue.limit" if said[0] == "report" else ""), words, content
    )


def drawn(strategy: st.SearchStrategy[Probe], count: int, number: int) -> Iterator[Probe]:
    """So many of a strategy, the same for a number."""
    found: list[Probe] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(strategy)
    def one(probe: Probe) -> None:
        found.append(probe)

    one()
    yield from found


KINDS: dict[str, Callable[[], st.SearchStrategy[Probe]]] = {
    "evidence": lambda: of_ways(OF_EVIDENCE),
    "comparisons": lambda: of_ways(OF_COMPARISONS),
    "claims": lambda: of_ways(OF_CLAIMS),
    "captures": captures,
}


def each(probes: Iterator[Probe], here: Path) -> Iterator[tuple[int, str, str, str]]:
    """Try them; of each defect the number of the probe, what it was, the defect's kind, what was seen."""
    total = 0
    for number, probe in enumerate(probes):
        total += 1
        place = here / "probe"
        place.mkdir()
        wrong = tried(probe, place)
        os.chdir(here)
        shutil.rmtree(place)
        for defect in wrong:
            yield number, f"{' '.join(probe.words)} with {probe.content[:20_000]!r}", *defect
    yield total, "", "", ""


def _hangs(_: int, __: FrameType | None) -> None:
    raise Hangs


def main(words: list[str]) -> None:
    """Try a batch."""
    kind, batch, count, number = words[0], *map(int, words[1:])
    signal.signal(signal.SIGALRM, _hangs)
    if kind == "packages":
        from bench.probes import packages

        with contextlib.closing(packages.Packages(Path.cwd() / "made")) as here:
            found = list(each(here.probes(count, number), Path.cwd()))
    else:
        found = list(each(drawn(KINDS[kind](), count, number * 1000 + batch), Path.cwd()))
    print(f"\n{json.dumps(found)}")


if __name__ == "__main__":
    main(sys.argv[1:])
