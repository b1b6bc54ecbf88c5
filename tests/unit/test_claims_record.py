"""The record of an experiment: which measurements make which verdict, and which make none."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from harness.claims.failures import Broken, Incomplete, Unexpected, Unexplained
from harness.claims.reading import Reader
from harness.claims.record import ClaimRun
from harness.claims.render import failure_lines
from harness.errors import BadInput
from harness.evidence import port, seconds
from harness.evidence.moved import moved
from harness.evidence.types import (
    Choice,
    Endpoint,
    Knob,
    Law,
    Moved,
    Outcome,
    Run,
    Series,
    SocketRow,
    Source,
    Verdict,
    wanted_of,
)
from harness.evidence.values import Kind, Value, value_of
from harness.lab.impairment import Impairment, LineUsed, SegmentMatch
from harness.laws.kernel import KernelVersion
from harness.laws.ranges import at_least, at_most, between, matches, one_of
from harness.observe.counters import Counters
from tests.unit.evidence_of_a_run import a_claim, a_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.lab.host import Host
    from harness.lab.lab import Lab

KERNEL = KernelVersion.parse("6.1")


class FakeHost:
    """A host whose counters the test moves."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counted = {"ListenDrops": 5, "PAWSActive": 0}
        self.sysctl = SimpleNamespace(changed={})
        self.sockets: list[Any] = []

    def survey(self, most: int) -> tuple[dict[str, int], list[Any]]:
        """As harness.observe.survey() does."""
        states = dict(Counter(one.state for one in self.sockets))
        return states, [one for one in self.sockets if len(self.sockets) <= most or one.state == "LISTEN"]


class FakeLab:
    """A lab of fake hosts, for their names and its end."""

    def __init__(self, *names: str) -> None:
        self.all_hosts = {name: FakeHost(name) for name in names}
        self.machine_sysctl = SimpleNamespace(changed={})
        self.impairments: list[Callable[[], Impairment]] = []
        self.cables: list[Any] = []
        self.callbacks: list[Callable[[], object]] = []

    def on_close(self, callback: Callable[[], object]) -> None:
        self.callbacks.append(callback)

    def close(self) -> None:
        for callback in self.callbacks:
            callback()


READER = Reader(
    counters=lambda host: Counters({"TcpExt": dict(cast("FakeHost", host).counted)}),
    survey=lambda host, most: cast("FakeHost", host).survey(most),
)


def begin(expected: Verdict | None = Verdict.HOLDS) -> ClaimRun:
    return ClaimRun(a_claim(expected), kernel=KERNEL, reader=READER)


def evidence_of(run: ClaimRun) -> Run:
    return run.as_evidence("test_queue.py::test_limit")


def watched(run: ClaimRun, *names: str) -> FakeLab:
    lab = FakeLab(*names)
    run.watch(cast("Lab", lab))
    return lab


def measure(run: ClaimRun, measured: object, *, control: int = 0, **sides: object) -> None:
    with run.effect("cause") as effect:
        effect.compare("waiting", measured, **cast("Any", sides))
    with run.control("no cause") as at_rest:
        at_rest.expect("overflows", control, 0)


@pytest.mark.parametrize(
    ("measured", "sides", "verdict"),
    [
        (10, {"document": 10}, Verdict.HOLDS),
        (10, {"document": 10, "kernel": 11}, Verdict.HOLDS),
        (11, {"document": 10, "kernel": 11}, Verdict.REFUTED),
        (10, {"document": at_most(10), "kernel": 10}, Verdict.HOLDS),
        (11, {"document": at_most(10), "kernel": between(11, 12)}, Verdict.REFUTED),
    ],
)
def test_the_verdict_is_what_the_measurement_supports(measured: int, sides: dict[str, Any], verdict: Verdict) -> None:
    run = begin(verdict)
    measure(run, measured, **sides)
    run.settle()
    assert run.verdict is verdict
    assert run.outcome == "expected"


def test_one_refuted_comparison_refutes_the_claim() -> None:
    run = begin(Verdict.REFUTED)
    measure(run, 10, document=10)
    measure(run, 11, document=10, kernel=11)
    run.settle()


def test_what_is_refuted_elsewhere_hides_no_measurement_that_only_the_document_foretold() -> None:
    run = begin(Verdict.REFUTED)
    measure(run, 11, document=10, kernel=11)
    with run.effect("another value of the knob") as effect:
        effect.compare("resets", 5, document=at_least(1), kernel=0)
    with pytest.raises(Unexpected, match=r"^resets: 5, as the document says, must be 0: by our account"):
        run.settle()
    assert (run.verdict, run.outcome) == (Verdict.REFUTED, "unexpected")
    assert moved(evidence_of(run)).startswith("resets: 5, as the document says, must be 0: by our account")
    shown = failure_lines(evidence_of(run))
    assert "  as the document says: resets: measured 5, document at least 1, kernel 0" in shown
    assert shown[0] == "effect: cause: 1 comparison, as it should be"


def test_where_the_document_and_our_account_agree_nothing_is_unexpected() -> None:
    run = begin(Verdict.REFUTED)
    measure(run, 11, document=10, kernel=11)
    measure(run, 11, document=at_least(10), kernel=11)
    run.settle()


def test_neither_side_right_is_unexplained_and_says_where() -> None:
    run = begin()
    measure(run, 12, document=10, kernel=11)
    with pytest.raises(
        Unexplained, match=r"test_claims_record\.py:\d+: waiting: measured 12, the document says 10, our"
    ):
        run.settle()
    assert run.outcome == "unexplained"


@pytest.mark.parametrize("expected", [Verdict.REFUTED, Verdict.NOT_APPLICABLE])
def test_another_verdict_than_expected_fails(expected: Verdict) -> None:
    run = begin(expected)
    measure(run, 10, document=10)
    with pytest.raises(Unexpected, match=rf"queue\.limit on 6\.1: holds, but {expected} is expected for >=3\.0 \(so\)"):
        run.settle()
    assert (run.verdict, run.outcome) == (Verdict.HOLDS, "unexpected")


def test_a_kernel_that_nothing_is_expected_of_fails() -> None:
    run = begin(expected=None)
    measure(run, 10, document=10)
    with pytest.raises(Unexpected, match="nothing is expected of this kernel"):
        run.settle()


def test_without_a_control_nothing_is_settled() -> None:
    run = begin()
    with run.effect("cause") as effect:
        effect.compare("waiting", 10, document=10)
    with pytest.raises(Incomplete, match="measured no control"):
        run.settle()
    assert (run.verdict, run.outcome) == (None, "incomplete")


def test_a_control_that_measures_nothing_is_none() -> None:
    run = begin()
    with run.effect("cause") as effect:
        effect.compare("waiting", 10, document=10)
    with run.control("no cause"):
        pass
    with pytest.raises(Incomplete, match="measured no control"):
        run.settle()


def test_without_an_effect_nothing_is_settled() -> None:
    run = begin()
    with run.effect("cause") as effect:
        effect.premise("a premise is no comparison", 1, 1)
    with run.control("no cause") as control:
        control.expect("overflows", 0, 0)
    with pytest.raises(Incomplete, match="compared no effect"):
        run.settle()


def test_a_scenario_that_measures_nothing_settles_nothing() -> None:
    with pytest.raises(Incomplete, match="measured nothing"):
        begin().settle()


def test_a_control_that_is_not_as_wanted_breaks_the_experiment_at_once() -> None:
    run = begin()
    with pytest.raises(Broken, match="control 'no cause': overflows: measured 3, must be 0") as raised:
        measure(run, 10, document=10, control=3)
    run.fail(raised.value)
    assert run.outcome == "broken"
    assert evidence_of(run).phases[1].interrupted.startswith("Broken: ")


def test_not_applicable_needs_what_was_seen() -> None:
    run = begin(Verdict.NOT_APPLICABLE)
    run.not_applicable("no such knob", shown={})
    with pytest.raises(Incomplete, match="nothing was shown"):
        run.settle()
    run = begin(Verdict.NOT_APPLICABLE)
    run.not_applicable("no such knob", shown={"open": "ENOENT"})
    run.settle()
    absence = evidence_of(run).absence
    assert absence is not None
    assert (absence.why, absence.shown.plain()) == ("no such knob", {"open": "ENOENT"})


def test_deltas_are_live_within_a_phase_and_frozen_after_it() -> None:
    run = begin()
    server = watched(run, "server").all_hosts["server"]
    host = cast("Host", server)
    with run.effect("cause") as effect:
        assert effect.delta(host).TcpExt.ListenDrops == 0
        server.counted["ListenDrops"] += 3
        assert effect.delta(host).TcpExt.ListenDrops == 3
    server.counted["ListenDrops"] += 100
    assert effect.delta(host).TcpExt.ListenDrops == 3
    with run.control("no cause") as control:
        assert control.delta(host).TcpExt.ListenDrops == 0
    phases = evidence_of(run).phases
    assert phases[0].counters == {"server": {"TcpExt.ListenDrops": Moved(5, 8)}}
    assert phases[0].counters["server"]["TcpExt.ListenDrops"].by == 3
    assert phases[1].counters == {}


def test_a_host_made_within_a_phase_counts_from_zero() -> None:
    run = begin()
    with run.effect("cause") as effect:
        server = watched(run, "server").all_hosts["server"]
        assert effect.delta(cast("Host", server)).TcpExt.ListenDrops == 5
    assert evidence_of(run).phases[0].counters == {"server": {"TcpExt.ListenDrops": Moved(0, 5)}}


def test_a_lab_closed_within_a_phase_is_named() -> None:
    run = begin()
    lab = watched(run, "client", "server")
    with run.effect("cause"):
        lab.close()
    (note,) = evidence_of(run).phases[0].notes
    assert (note.label, note.value.plain()) == ("closed before the phase ended", ["client", "server"])


def test_what_the_scenario_did_to_traffic_is_kept_from_open_labs_and_closed_ones() -> None:
    run = begin()
    assert evidence_of(run).impairments == ()
    closed, still_open = watched(run, "client"), watched(run, "server")
    closed.impairments.append(lambda: Impairment("drop", "client", SegmentMatch(), 1.0, 2.0, 1))
    closed.close()
    still_open.impairments.append(lambda: Impairment("hold", "server", SegmentMatch(), 1.0, None, 2))
    kept = [(rule.kind, rule.dropped) for rule in evidence_of(run).impairments]
    assert kept == [("drop", 1), ("hold", 2)]


def test_what_cables_did_is_kept_from_open_labs_and_closed_ones() -> None:
    run = begin()
    closed, still_open = watched(run, "client"), watched(run, "server")
    for lab, name in ((closed, "netem"), (still_open, "box")):
        line = LineUsed(("client", "server"), name, delay=0.1)
        lab.cables += [SimpleNamespace(used=lambda: None), SimpleNamespace(used=lambda line=line: line)]
    closed.close()
    assert [line.by for line in evidence_of(run).lines] == ["netem", "box"]


def test_hosts_of_two_labs_with_one_name_are_told_apart() -> None:
    run = begin()
    watched(run, "server")
    watched(run, "server")
    assert list(run.hosts()) == ["server", "server#2"]


def test_evidence_keeps_knobs_and_a_limited_socket_table() -> None:
    run = begin()
    server = watched(run, "server").all_hosts["server"]
    server.sysctl.changed["net.core.somaxconn"] = ("4096", "10")
    timer = SimpleNamespace(kind="on", expires=0.996, retransmits=2)
    server.sockets = [
        SimpleNamespace(state="SYN-RECV", recv_q=0, send_q=0, local=("fd00::2", 80), remote=("fd00::1", n), timer=timer)
        for n in range(60)
    ]
    listening = {"state": "LISTEN", "recv_q": 11, "send_q": 10, "local": ("10.0.0.2", 80)}
    server.sockets.append(SimpleNamespace(**listening, remote=("0.0.0.0", 0), timer=None))
    with run.effect("cause"):
        pass
    (phase,) = evidence_of(run).phases
    assert phase.knobs == {"server": {"net.core.somaxconn": Knob("4096", "10")}}
    table = phase.sockets["server"]
    assert (table.total, table.states, len(table.rows)) == (61, {"LISTEN": 1, "SYN-RECV": 60}, 20)
    assert table.rows[0] == SocketRow("LISTEN", 11, 10, Endpoint("10.0.0.2", 80), Endpoint("0.0.0.0", 0))
    half_open = table.rows[1]
    assert (str(half_open.local), str(half_open.timer)) == ("[fd00::2]:80", "on 0.996s, 2 retransmits")
    lines = failure_lines(a_run(outcome=Outcome.FAILED, phases=(phase,)))
    assert "  sockets of server: 1 LISTEN, 60 SYN-RECV" in lines
    assert "    … 41 more" in lines


def test_phases_follow_each_other() -> None:
    run = begin()
    with run.effect("outer"), pytest.raises(BadInput, match="control 'inner' begins within effect 'outer'"):
        with run.control("inner"):
            pass


def test_notes_and_series_are_kept() -> None:
    run = begin()
    with run.effect("cause") as effect:
        effect.note("argv", ("ss", "-lnt"))
        effect.series("half-open", [(0.0, 1), (1.0, 2)], unit="sockets")
        effect.series("age", [("first", seconds(1.5))], unit="s", x="client")
    (phase,) = evidence_of(run).phases
    assert [(note.label, note.value.plain()) for note in phase.notes] == [("argv", ["ss", "-lnt"])]
    assert phase.series == (
        Series("half-open", ((0.0, 1), (1.0, 2)), Kind.COUNT, "sockets"),
        Series("age", (("first", 1.5),), Kind.SECONDS, "s", "client", Kind.TEXT),
    )


def test_a_failure_shows_the_phase_that_matters() -> None:
    run = begin(Verdict.HOLDS)
    measure(run, 11, document=10, kernel=11)
    with pytest.raises(Unexpected):
        run.settle()
    assert failure_lines(evidence_of(run)) == [
        "effect: cause",
        "  not what the document says: waiting: measured 11, document 10, kernel 11",
        "control: no cause: 1 comparison, as it should be",
    ]


def test_a_long_exchange_is_cut_with_a_count() -> None:
    run = begin()
    lines = failure_lines(evidence_of(run), [("server", [f"packet {n}" for n in range(45)])])
    assert lines[0] == "packets at server"
    assert lines[-2:] == ["    packet 39", "    … 5 more"]


@pytest.mark.parametrize(
    ("wanted", "measured", "met"),
    [
        (10, 10, True),
        (10, 11, False),
        ([1, 2], [1, 2], True),
        (between(3, 5), 5, True),
        (between(3, 5), 6, False),
        (at_least(1), 0, False),
        (at_most(1), None, False),
        (one_of("ETIMEDOUT", "EINPROGRESS"), "ETIMEDOUT", True),
        (one_of("ETIMEDOUT", "EINPROGRESS"), "ECONNRESET", False),
    ],
)
def test_values_and_ranges(wanted: object, measured: object, met: bool) -> None:
    assert matches(wanted, measured) is met


def test_ranges_read_as_prose() -> None:
    assert [repr(one) for one in (between(3, 5), at_least(1), at_most(2), one_of("a", 1))] == [
        "between 3 and 5",
        "at least 1",
        "at most 2",
        "one of 'a', 1",
    ]


def test_a_value_is_stored_with_its_kind() -> None:
    plain = [(3, Kind.COUNT), (2.5, Kind.NUMBER), ("x", Kind.TEXT), (b"x", Kind.TEXT), (None, Kind.NOTHING)]
    for measured, kind in [*plain, (seconds(2.5), Kind.SECONDS), (Verdict.HOLDS, Kind.TEXT), (KERNEL.parse, Kind.TEXT)]:
        assert value_of(measured).kind is kind
    assert value_of(True) == Value(Kind.FLAG, True)
    assert value_of((1, None)).plain() == [1, None]
    assert value_of({"b", "a"}).plain() == ["a", "b"]
    assert value_of(Source("000", "h")).plain() == {"document": "000", "heading": "h"}
    assert value_of({1: b"\xff"}).plain() == {"1": "\\xff"}
    assert len(str(value_of("x" * 5000))) == 2000
    assert value_of(1 << 80).plain() == str(1 << 80)


def test_what_a_value_is_held_against_is_of_its_kind() -> None:
    assert wanted_of(80, value_of(port(80))) == Value(Kind.PORT, 80)
    assert wanted_of((80, "x"), value_of((port(80), 1))) == Value(
        Kind.SEVERAL, parts=(Value(Kind.PORT, 80), Value(Kind.TEXT, "x"))
    )
    assert wanted_of({"a": 1}, value_of({"a": seconds(1.0)})) == value_of({"a": seconds(1)})
    assert wanted_of(None, value_of(port(80))) == Value(Kind.NOTHING)


def test_a_range_is_stored_as_data() -> None:
    class Even:
        def accepts(self, measured: int) -> bool:
            return measured % 2 == 0

        def __repr__(self) -> str:
            return "an even number"

    assert wanted_of(between(1, 2)) == between(1, 2)
    assert wanted_of(one_of("a", 1)) == Choice((value_of("a"), value_of(1)))
    assert wanted_of(Even()) == Law("Even", "an even number")
