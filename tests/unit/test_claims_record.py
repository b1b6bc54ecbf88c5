"""The record of an experiment: which measurements make which verdict, and which make none."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from harness.claims.data import Claim, Expectation, Source, Verdict
from harness.claims.failures import Broken, Incomplete, Unexpected, Unexplained
from harness.claims.instruments import Instruments
from harness.claims.record import ClaimRun
from harness.claims.render import failure_lines
from harness.claims.stored import jsonable
from harness.errors import BadInput
from harness.lab.impairment import Impairment, SegmentMatch
from harness.laws.kernel import KernelVersion
from harness.laws.ranges import at_least, at_most, between, matches, one_of
from harness.observe.counters import Counters

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


class FakeLab:
    """A lab of fake hosts, for their names and its end."""

    def __init__(self, *names: str) -> None:
        self.all_hosts = {name: FakeHost(name) for name in names}
        self.machine_sysctl = SimpleNamespace(changed={})
        self.impairments: list[Callable[[], Impairment]] = []
        self.callbacks: list[Callable[[], object]] = []

    def on_close(self, callback: Callable[[], object]) -> None:
        self.callbacks.append(callback)

    def close(self) -> None:
        for callback in self.callbacks:
            callback()


INSTRUMENTS = Instruments(
    counters=lambda host: Counters({"TcpExt": dict(cast("FakeHost", host).counted)}),
    sockets=lambda host, _: cast("FakeHost", host).sockets,
    tally=lambda host: dict(Counter(one.state for one in cast("FakeHost", host).sockets)),
)


def begin(expected: Verdict | None = Verdict.HOLDS) -> ClaimRun:
    kernels = [Expectation(">=3.0", (((3, 0, 0), None),), expected, "so")] if expected else []
    claim = Claim("queue", "limit", "ten wait", (Source("000", "h"),), tuple(kernels))
    return ClaimRun(claim, kernel=KERNEL, instruments=INSTRUMENTS)


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
    assert run.as_dict()["phases"][1]["interrupted"].startswith("Broken: ")


def test_not_applicable_needs_what_was_seen() -> None:
    run = begin(Verdict.NOT_APPLICABLE)
    run.not_applicable("no such knob", shown={})
    with pytest.raises(Incomplete, match="nothing was shown"):
        run.settle()
    run = begin(Verdict.NOT_APPLICABLE)
    run.not_applicable("no such knob", shown={"open": "ENOENT"})
    run.settle()
    assert run.as_dict()["absence"] == {"why": "no such knob", "shown": {"open": "ENOENT"}}


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
    phases = run.as_dict()["phases"]
    assert phases[0]["counters"] == {"server": {"TcpExt.ListenDrops": [5, 8, 3]}}
    assert "counters" not in phases[1]


def test_a_host_made_within_a_phase_counts_from_zero() -> None:
    run = begin()
    with run.effect("cause") as effect:
        server = watched(run, "server").all_hosts["server"]
        assert effect.delta(cast("Host", server)).TcpExt.ListenDrops == 5
    assert run.as_dict()["phases"][0]["counters"] == {"server": {"TcpExt.ListenDrops": [0, 5, 5]}}


def test_a_lab_closed_within_a_phase_is_named() -> None:
    run = begin()
    lab = watched(run, "client", "server")
    with run.effect("cause"):
        lab.close()
    assert run.as_dict()["phases"][0]["notes"] == {"closed before the phase ended": ["client", "server"]}


def test_what_the_scenario_did_to_traffic_is_kept_from_open_labs_and_closed_ones() -> None:
    run = begin()
    assert "impairments" not in run.as_dict()
    closed, still_open = watched(run, "client"), watched(run, "server")
    closed.impairments.append(lambda: Impairment("drop", "client", SegmentMatch(), 1.0, 2.0, 1))
    closed.close()
    still_open.impairments.append(lambda: Impairment("hold", "server", SegmentMatch(), 1.0, None, 2))
    kept = [(rule["kind"], rule["dropped"]) for rule in run.as_dict()["impairments"]]
    assert kept == [("drop", 1), ("hold", 2)]


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
    phase = run.as_dict()["phases"][0]
    assert phase["knobs"] == {"server": {"net.core.somaxconn": ["4096", "10"]}}
    table = phase["sockets"]["server"]
    assert (table["total"], table["states"], len(table["rows"])) == (61, {"LISTEN": 1, "SYN-RECV": 60}, 20)
    assert table["rows"][0] == ["LISTEN", 11, 10, "10.0.0.2:80", "0.0.0.0:0", ""]
    assert table["rows"][1] == ["SYN-RECV", 0, 0, "[fd00::2]:80", "[fd00::1]:0", "on 0.996s, 2 retransmits"]
    lines = failure_lines({"outcome": "failed", "verdict": None, "phases": [phase]})
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
    phase = run.as_dict()["phases"][0]
    assert phase["notes"] == {"argv": ["ss", "-lnt"]}
    assert phase["series"] == {"half-open": {"x": "s", "unit": "sockets", "points": [[0.0, 1], [1.0, 2]]}}


def test_a_failure_shows_the_phase_that_matters() -> None:
    run = begin(Verdict.HOLDS)
    measure(run, 11, document=10, kernel=11)
    with pytest.raises(Unexpected):
        run.settle()
    assert failure_lines(run.as_dict()) == [
        "effect: cause",
        "  not what the document says: waiting: measured 11, document 10, kernel 11",
        "control: no cause: 1 comparison, as it should be",
    ]


def test_a_long_exchange_is_cut_with_a_count() -> None:
    run = begin()
    lines = failure_lines(run.as_dict() | {"phases": []}, [("server", [f"packet {n}" for n in range(45)])])
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


def test_anything_becomes_json() -> None:
    assert jsonable({1: (b"x", {"b", "a"}, KERNEL.parse, between(1, 2), Verdict.HOLDS)})["1"][:2] == [
        "b'x'",
        ["a", "b"],
    ]
    assert jsonable(between(1, 2)) == "between 1 and 2"
    assert jsonable(Source("000", "h")) == {"document": "000", "heading": "h"}
    assert jsonable(Verdict.HOLDS) == "holds"
    assert len(jsonable("x" * 5000)) == 2000
