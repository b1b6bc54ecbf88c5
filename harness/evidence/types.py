"""What the runs of a claim measured, as frozen types: Claim, Run, Phase, Comparison, Series, and what they are made of.

A file of evidence is one EvidenceFile, schema 2, as JSON; docs/evidence.schema.json is made from these types. Times are
in seconds: `started`, `since` and `until` since the epoch. What is empty is left out of the JSON.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from harness.evidence.values import Kind, Value, storable, value_of
from harness.lab.impairment import Impairment, LineUsed
from harness.laws.kernel import KernelVersion, Release
from harness.laws.ranges import AtLeast, AtMost, Between, OneOf, Range

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA: Final = 2


class Verdict(StrEnum):
    """What a kernel makes of a claim."""

    HOLDS = "holds"
    REFUTED = "refuted"
    NOT_APPLICABLE = "not-applicable"

    @property
    def words(self) -> str:
        """As a reader sees it."""
        return self.value.replace("-", " ")


class Outcome(StrEnum):
    """What became of a run: its verdict was the expected one, or what went wrong."""

    EXPECTED = "expected"
    UNEXPECTED = "unexpected"
    UNEXPLAINED = "unexplained"
    BROKEN = "broken"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    UNSETTLED = "unsettled"


# What may be said of a run (Run.said), the loudest first.
WRONG = ("unexpected", "unexplained", "broken", "incomplete", "failed")
NOT_SETTLED = "not settled"
SAID = (*WRONG, NOT_SETTLED, "refuted", "holds", "not applicable")


class Result(StrEnum):
    """Whose account of the kernel a measurement agrees with."""

    DOCUMENT = "document"
    KERNEL = "kernel"
    NEITHER = "neither"


class PhaseKind(StrEnum):
    """Whether the cause is present."""

    EFFECT = "effect"
    CONTROL = "control"


# The claim, as its file has it.


class Source(msgspec.Struct, frozen=True):
    """Where a claim stands: a document by the first digits of its name, and the heading above the words."""

    document: str
    heading: str


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """The commit that made an expectation true: its hash, its subject, and the first release that has it.

    It is the kernel's, and `commit` is empty where nobody has the hash; or that of a `tool`, whose subject can be empty
    too. `boundary` is its name in the table of boundaries (harness.laws.boundaries); a claim file of somebody else's
    need not have one.
    """

    commit: str
    subject: str
    release: str
    tool: str = ""
    boundary: str = ""

    def __str__(self) -> str:
        release = f"{self.tool} {self.release}" if self.tool else self.release
        if self.commit:
            return f"commit {self.commit} in {release}"
        return f"“{self.subject}” in {release}" if self.subject and not self.tool else release


class Expectation(msgspec.Struct, frozen=True, omit_defaults=True):
    """A verdict for some kernels, the reason, and the change that made it so.

    `ranges` are the kernels as [first, end): more than one where a change went to stable series too; an end of None is
    open. `kernels` says the same in words.
    """

    kernels: str
    ranges: tuple[tuple[Release, Release | None], ...]
    verdict: Verdict
    because: str
    change: Change | None = None

    def covers(self, kernel: KernelVersion) -> bool:
        """Whether the kernel is in one of the ranges."""
        return any(first <= kernel.release and (end is None or kernel.release < end) for first, end in self.ranges)


class Claim(msgspec.Struct, frozen=True):
    """One statement of a document about what Linux does."""

    group: str
    id: str
    statement: str
    sources: tuple[Source, ...]
    expectations: tuple[Expectation, ...]

    @property
    def name(self) -> str:
        """Group and id: accept-queue.capacity."""
        return f"{self.group}.{self.id}"

    def expected_on(self, kernel: KernelVersion) -> Expectation | None:
        """What is expected on a kernel; None for one older than every range."""
        return next((expectation for expectation in self.expectations if expectation.covers(kernel)), None)


# What a measurement was held against.


class Choice(msgspec.Struct, frozen=True, tag_field="type", tag="one-of"):
    """Any of these values."""

    options: tuple[Value, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.options))}"


class Law(msgspec.Struct, frozen=True, tag_field="type", tag="law"):
    """A range of a scenario's own kind: its name and its fields."""

    name: str
    says: str
    fields: dict[str, Value] = {}

    def __str__(self) -> str:
        return self.says


Wanted = Value | Between | AtLeast | AtMost | Choice | Law


class Premise(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="role", tag="premise"):
    """A condition of the instrument: what was seen, what it had to be. `where` says where it was not met."""

    what: str
    measured: Value
    wanted: Wanted
    met: bool
    where: str = ""


class Judgement(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="role", tag="document"):
    """A measurement against what a document says and against our account of the kernel."""

    what: str
    measured: Value
    document: Wanted
    kernel: Wanted
    result: Result
    where: str = ""


class Check(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="role", tag="control"):
    """What a control saw with the cause removed, and what it had to be."""

    what: str
    measured: Value
    wanted: Wanted
    met: bool
    where: str = ""


Comparison = Premise | Judgement | Check


def is_wrong(comparison: Comparison) -> bool:
    """Whether it lets the run fail: a premise or a control that is not met, a measurement that nobody predicted."""
    if isinstance(comparison, Judgement):
        return comparison.result is Result.NEITHER
    return not comparison.met


def judged(comparison: Comparison) -> str:
    """What came of it: document, kernel or neither; met or not met."""
    if isinstance(comparison, Judgement):
        return str(comparison.result)
    return "met" if comparison.met else "not met"


# What a phase read.


class Endpoint(msgspec.Struct, frozen=True, array_like=True):
    """An address and a port; port 0 is any."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class SocketTimer(msgspec.Struct, frozen=True, array_like=True):
    """The timer that a socket waits for: its kind as ss prints it, seconds to go, how often it has fired."""

    kind: str
    seconds: float
    retransmits: int

    def __str__(self) -> str:
        return f"{self.kind} {self.seconds:.3g}s, {self.retransmits} retransmits"


class SocketRow(msgspec.Struct, frozen=True, array_like=True):
    """One socket at the end of a phase; the queues mean what ss means by Recv-Q and Send-Q."""

    state: str
    recv_q: int
    send_q: int
    local: Endpoint
    peer: Endpoint
    timer: SocketTimer | None = None


class SocketTable(msgspec.Struct, frozen=True):
    """A host's sockets: how many in all and in each state, and the first of them."""

    total: int
    states: dict[str, int]
    rows: tuple[SocketRow, ...]


# Bytes and ECN marks move with every packet and say nothing about it: how such counters' names end.
NOISE = ("Octets", "NoECTPkts", "Ect0Pkts")


class Moved(msgspec.Struct, frozen=True, array_like=True):
    """A counter that moved: its value at the start of the phase and at its end."""

    before: int
    after: int

    @property
    def by(self) -> int:
        """How far."""
        return self.after - self.before


class Knob(msgspec.Struct, frozen=True, array_like=True):
    """A sysctl that was set: its value before anybody set it, and the value in force."""

    before: str
    now: str


class Note(msgspec.Struct, frozen=True):
    """Something else that was seen."""

    label: str
    value: Value


class Series(msgspec.Struct, frozen=True, omit_defaults=True):
    """A law or a course of time, for the plots: points (x, y).

    `x` says what x is, seconds if nothing else; where the x of the points are names, the plot has a bar for each.
    `kind` and `unit` are those of y, `x_kind` is that of x.
    """

    name: str
    points: tuple[tuple[float | str, float], ...]
    kind: Kind = Kind.NUMBER
    unit: str = ""
    x: str = "s"
    x_kind: Kind = Kind.SECONDS


class Phase(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of an experiment: what was compared, the knobs in force, the counters that moved, the sockets at its end.

    `interrupted` is the error that ended it early; `comparisons_left_out` counts those that were too many to keep.
    """

    kind: PhaseKind
    title: str
    comparisons: tuple[Comparison, ...] = ()
    knobs: dict[str, dict[str, Knob]] = {}
    counters: dict[str, dict[str, Moved]] = {}
    sockets: dict[str, SocketTable] = {}
    notes: tuple[Note, ...] = ()
    series: tuple[Series, ...] = ()
    interrupted: str = ""
    comparisons_left_out: int = 0

    @property
    def is_wrong(self) -> bool:
        """Whether something in it let the run fail."""
        return bool(self.interrupted) or any(is_wrong(comparison) for comparison in self.comparisons)


# A run.

# Seconds since the epoch, up to the year 9999: later ones have no date.
Moment = Annotated[float, msgspec.Meta(ge=0, lt=253402300800)]


class Kernel(msgspec.Struct, frozen=True, order=True):
    """A kernel: `release` as `uname -r` has it, `version` as expectations take it, `machine` the processor."""

    release: str
    version: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,9}\.[0-9]{1,9}")]
    machine: str = ""


class Absence(msgspec.Struct, frozen=True):
    """Why a claim is not applicable, and what the kernel said to that."""

    why: str
    shown: Value


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run of a claim's scenario: a test, with its parameters, on a kernel.

    `nodeid` is pytest's name of the test, `params` what stands in its brackets, `kernel_name` what --kernel called the
    kernel there, last; `options` are those of pytest that it does not run without. `packets` names the pcapng file
    beside the evidence. `duration` is that of the test's call. `asked` are the boundaries (harness.laws.boundaries)
    that the scenario asked for: it expects something else on their other sides. `earlier` are the attempts of a test
    that was run again because it had failed, the first one first. `session` is when the session of pytest began that
    kept the run, `kept` when it did, both by the clock of the machine at whose terminal it was: `started` is by the
    clock of the kernel, which in simulated time is another. `lines` are the cables that delayed or lost frames.
    """

    kernel: Kernel
    nodeid: str
    outcome: Outcome
    started: Moment
    duration: float
    params: str = ""
    kernel_name: str = ""
    options: tuple[str, ...] = ()
    verdict: Verdict | None = None
    expected: Verdict | None = None
    reason: str = ""
    absence: Absence | None = None
    impairments: tuple[Impairment, ...] = ()
    lines: tuple[LineUsed, ...] = ()
    phases: tuple[Phase, ...] = ()
    phases_left_out: int = 0
    packets: str = ""
    asked: tuple[str, ...] = ()
    earlier: tuple[Run, ...] = ()
    session: Moment = 0.0
    kept: Moment = 0.0

    @property
    def when(self) -> float:
        """When it was made, in seconds since the epoch: when it was kept, of before that was noted when it started."""
        return self.kept or self.started

    @property
    def is_flaky(self) -> bool:
        """Whether it came out as expected only when it was run again."""
        return bool(self.earlier) and self.said not in WRONG

    @property
    def said(self) -> str:
        """The verdict in words if it is the expected one; otherwise what became of the run.

        A run that others call expected and that has no verdict has settled nothing.
        """
        if self.outcome is Outcome.EXPECTED:
            return self.verdict.words if self.verdict is not None else NOT_SETTLED
        return NOT_SETTLED if self.outcome is Outcome.UNSETTLED else str(self.outcome)

    @property
    def test(self) -> str:
        """The test with its parameters, without the kernel: a run of it on another kernel is of the same test."""
        return bare(self.nodeid, self.kernel_name)


def bare(nodeid: str, kernel_name: str) -> str:
    """pytest's name of a test without the kernel that stands last among its parameters."""
    before = nodeid.removesuffix(f"{kernel_name}]")
    if not kernel_name or before == nodeid or not before.endswith(("[", "-")):
        return nodeid
    return before[:-1] if before.endswith("[") else f"{before[:-1]}]"


def short_names(tests: Iterable[str]) -> dict[str, str]:
    """Tests without their files and classes, by their whole names; those that would be alike keep all of it."""
    tests = list(tests)
    short = {test: test.rpartition("::")[2] for test in tests}
    many = Counter(short.values())
    return {test: name if many[name] == 1 else test for test, name in short.items()}


class EvidenceFile(msgspec.Struct, frozen=True):
    """What a session measured of one claim, a run for each test and kernel."""

    schema: Literal[2]
    harness: str
    claim: Claim
    runs: tuple[Run, ...]


# What a plain value may stand for.
_MARKED = {
    Kind.COUNT: {Kind.SECONDS, Kind.TICKS, Kind.BYTES, Kind.PORT, Kind.DRAWN, Kind.NUMBER},
    Kind.NUMBER: {Kind.SECONDS},
    Kind.TEXT: {Kind.ADDRESS, Kind.STATE, Kind.OUTPUT},
}


def wanted_of(wanted: object, measured: Value | None = None) -> Wanted:
    """What a measurement is held against, as it is stored: a value of a kind, or a range as data.

    A plain value is of the kind of what was `measured`: a count that a port is held against is a port.
    """
    if isinstance(wanted, (Between, AtLeast, AtMost)):
        return wanted
    if isinstance(wanted, OneOf):
        return Choice(tuple(_like(value_of(option), measured) for option in wanted.values))
    if isinstance(wanted, Range):
        return Law(type(wanted).__name__, storable(repr(wanted)), value_of(wanted).fields)
    return _like(value_of(wanted), measured)


def _like(wanted: Value, measured: Value | None) -> Value:
    """A value with the kinds of another that has the same shape."""
    if measured is None:
        return wanted
    if wanted.kind is Kind.SEVERAL and len(wanted.parts) == len(measured.parts):
        parts = zip(wanted.parts, measured.parts, strict=True)
        return msgspec.structs.replace(wanted, parts=tuple(_like(part, other) for part, other in parts))
    if wanted.kind is Kind.NAMED:
        fields = {name: _like(field, measured.fields.get(name)) for name, field in wanted.fields.items()}
        return msgspec.structs.replace(wanted, fields=fields)
    if measured.kind in _MARKED.get(wanted.kind, ()):
        return msgspec.structs.replace(wanted, kind=measured.kind)
    return wanted
