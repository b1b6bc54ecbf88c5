"""Many runs as a history: for each line of kernels the sessions in their order, and each test through all of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from harness.evidence.codec import encode_claim
from harness.evidence.types import NOT_SETTLED, SAID, Outcome, short_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from harness.evidence.types import Claim, Kernel, Run
    from harness.report.history.gathering import Gathered, Kept

# A line of kernels: what has the same first two numbers is nearly the same code.
_LINE = re.compile(r"(\d{1,6})\.(\d{1,6})")
# What can be a time of day, in seconds since the epoch.
TIMES = range(1, 1 << 33)
# A test that was lost with its machine says so in its reason.
LOST = "WorkerLost: "


@dataclass(frozen=True)
class Session:
    """A session of pytest on a kernel: when it began and ended, in seconds since the epoch, and where its evidence is.

    Evidence of before it had the session's time says when its first test started, by the clock of the kernel.
    """

    kernel: Kernel
    kernel_name: str
    began: float
    ended: float
    place: str
    harness: str


@dataclass
class Course:
    """The course of a test of a claim, with its parameters: its run in each session of its line, if it has one."""

    claim: str
    name: str
    runs: list[Run | None]
    files: list[str]

    @property
    def seen(self) -> list[tuple[int, Run]]:
        """The runs that there are, each with the number of its session."""
        return [(number, run) for number, run in enumerate(self.runs) if run is not None]

    @property
    def last(self) -> Run:
        """The newest run."""
        return self.seen[-1][1]

    @property
    def always(self) -> str:
        """What it said in all runs; "" if it has not said the same in all."""
        said = {run.said for _, run in self.seen}
        return said.pop() if len(said) == 1 else ""


@dataclass
class Line:
    """The kernels with the same first two numbers, "6.12": its sessions from the oldest to the newest, its tests."""

    name: str
    sessions: tuple[Session, ...]
    tests: tuple[Course, ...]

    @property
    def kernels(self) -> list[str]:
        """The versions of its kernels, in the order in which they came."""
        return list(dict.fromkeys(session.kernel.version for session in self.sessions))

    def claims(self) -> dict[str, list[Course]]:
        """The tests by claim."""
        by_claim: dict[str, list[Course]] = {}
        for test in self.tests:
            by_claim.setdefault(test.claim, []).append(test)
        return by_claim


@dataclass(frozen=True)
class History:
    """All lines, from the oldest kernels to the newest; `notices` say what could not be read."""

    lines: tuple[Line, ...]
    claims: dict[str, Claim]
    notices: tuple[str, ...] = ()

    @property
    def sessions(self) -> list[Session]:
        """The sessions of all lines, in the order of time."""
        return sorted((each for line in self.lines for each in line.sessions), key=lambda session: session.began)


# A session: when it began, or where its evidence is; the kernel's release, and what --kernel called it.
Key = tuple[float | str, str, str]


@dataclass
class _Session:
    """What belongs to a session, while it is gathered."""

    kept: dict[tuple[str, str], Kept] = field(default_factory=dict)

    def add(self, key: tuple[str, str], kept: Kept) -> None:
        """One more run; it may be there twice, as files and in an archive, and in one of them as it was at first.

        A test that is run again is kept before and after that.
        """
        known = self.kept.get(key, kept)
        told = _newest(kept)[:3], _newest(known)[:3]
        if told[0] > told[1] or (told[0] == told[1] and _place(kept) <= _place(known)):
            self.kept[key] = kept

    def made(self) -> Session:
        runs = [each.run for each in self.kept.values()]
        first = min(self.kept.values(), key=_place)
        began = first.run.session if first.run.session in _Times() else min(run.started for run in runs)
        ended = max((run.kept or run.started + run.duration) for run in runs)
        place = first.place
        return Session(first.run.kernel, first.run.kernel_name, began, max(began, ended), place, first.harness)


class _Times:
    """What can be a time of day, with fractions."""

    def __contains__(self, seconds: float) -> bool:
        return TIMES.start <= seconds < TIMES.stop


def history(gathered: Gathered, lines: Sequence[str] = ()) -> History:
    """The history of what was gathered; of these lines of kernels alone, where they are named."""
    by_line: dict[str, dict[Key, _Session]] = {}
    claims: dict[str, Kept] = {}
    for kept in gathered.runs:
        line = line_of(kept.run.kernel.version)
        if lines and line not in lines:
            continue
        name = kept.claim.name
        claims[name] = kept if name not in claims else max(claims[name], kept, key=_newest)
        session = by_line.setdefault(line, {}).setdefault(_key(kept), _Session())
        session.add((name, kept.run.test), kept)
    made = [_line(name, _each_once(by_line[name].values())) for name in sorted(by_line, key=_order)]
    return History(tuple(made), {name: claims[name].claim for name in sorted(claims)}, gathered.notices)


def _each_once(sessions: Iterable[_Session]) -> list[_Session]:
    """The sessions, each once: those of before their time was kept are told apart by their places, as copies are."""
    by_runs: dict[object, _Session] = {}
    for session in sorted(sessions, key=lambda each: min(map(_place, each.kept.values())), reverse=True):
        runs = ((key, kept.run) for key, kept in session.kept.items())
        same = frozenset(
            (key, run.kernel, run.kernel_name, run.session, run.started, run.duration) for key, run in runs
        )  # fmt: skip
        by_runs[same] = session
    return list(by_runs.values())


def _place(kept: Kept) -> tuple[int, str]:
    """What sorts the files of a session: those of archives come last."""
    return kept.file.count("!"), kept.file


def _newest(kept: Kept) -> tuple[float, float, int, bytes]:
    """What sorts runs from the oldest to the newest, in whatever order they were read."""
    run = kept.run
    return run.session, run.when, len(run.earlier), encode_claim(kept.claim)


def line_of(version: str) -> str:
    """The line that a kernel is of: "6.12" of "6.12.43-rc1"."""
    match = _LINE.match(version)
    return f"{int(match[1])}.{int(match[2])}" if match else version


def _order(line: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d{1,6}", line))


def _key(kept: Kept) -> Key:
    run = kept.run
    return run.session if run.session in _Times() else kept.place, run.kernel.release, run.kernel_name


def _line(name: str, gathered: list[_Session]) -> Line:
    pairs = [(session.made(), session) for session in gathered]
    pairs.sort(key=lambda pair: (pair[0].began, pair[0].kernel, pair[0].kernel_name, pair[0].place))
    keys = sorted({key for _, session in pairs for key in session.kept})
    names = {
        claim: short_names(test for _, test in of_claim) for claim, of_claim in groupby(keys, key=lambda key: key[0])
    }
    tests = []
    for key in keys:
        kept = [session.kept.get(key) for _, session in pairs]
        tests.append(
            Course(
                key[0],
                names[key[0]][key[1]],
                [each.run if each else None for each in kept],
                [each.file if each else "" for each in kept],
            )
        )
    return Line(name, tuple(session for session, _ in pairs), tuple(tests))


def said_by(tests: Iterable[Course]) -> str:
    """The loudest that the newest runs of tests say: one of SAID."""
    sayings = {test.last.said for test in tests}
    settled = sayings - {NOT_SETTLED}
    return next(said for said in SAID if said in (settled or sayings))


def attempts(run: Run) -> Iterator[Run]:
    """All attempts of a run, the first one first."""
    yield from run.earlier
    yield run


def crash_of(run: Run) -> str:
    """How the machine or the process was lost that ran a test; "" if it was not."""
    if run.outcome is Outcome.FAILED and run.reason.startswith(LOST):
        return run.reason.removeprefix(LOST)
    return ""
