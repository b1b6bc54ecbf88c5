"""What differs between two runs: by kinds, roles and places, and never by what things are called."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from harness.evidence.differences import counter_differences, differences, distance
from harness.evidence.kinds import address, drawn, output, port, seconds, size, ticks
from harness.evidence.types import Knob, Moved, Note, PhaseKind
from harness.evidence.values import value_of
from harness.laws.ranges import at_least, between, one_of
from tests.report.made_evidence import checked, compared, course, phase, premise, run

if TYPE_CHECKING:
    from harness.evidence.types import Comparison, Phase, Run


def of(*comparisons: Comparison, kind: str = "effect", **parts: Any) -> Run:
    return run(phases=(phase(kind, "e", *comparisons, **parts),))


def changed(before: Run, after: Run) -> list[tuple[str, bool]]:
    return [(difference.what, difference.changed) for difference in differences(before, after)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (seconds(1.02), seconds(1.07)),
        (ticks(250), ticks(251)),
        (1.5, 1.25),
        (drawn(7_000_000), drawn(9_000_000)),
        (port(40001), port(50001)),
        (address(("10.1.0.1", 40001)), address(("10.1.0.1", 50001))),
        ([seconds(1.0), 3], [seconds(2.0), 3]),
        (output("ESTAB 10.1.0.1:40001 timer:(on,200ms,0)"), output("ESTAB 10.1.0.1:40002 timer:(on,100ms,0)")),
    ],
)
def test_what_a_clock_reads_and_what_is_drawn_has_not_changed(before: object, after: object) -> None:
    # A law of the scenario's own made the prediction, from what the run itself had read.
    runs = [of(checked("it", value, at_least(0)), kind="control") for value in (before, after)]
    judged = [msgspec.structs.replace(each, phases=(_met(each.phases[0]),)) for each in runs]
    assert changed(judged[0], judged[1]) == [("it", False)]


def _met(phase: Phase) -> Phase:
    """The phase, with one value that its comparisons had to be, and were: another one."""
    comparisons = tuple(
        msgspec.structs.replace(each, wanted=value_of("as predicted"), met=True) for each in phase.comparisons
    )
    return msgspec.structs.replace(phase, comparisons=comparisons)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (10, 11),
        ("open", "closed"),
        (True, False),
        (None, 3),
        (size(100), size(101)),
        (port(80), port(81)),
        (address(("10.1.0.1", 80)), address(("10.1.0.2", 80))),
        ([1, 2], [1, 3]),
        ([1, 2], [1, 2, 3]),
        ({"a": 1}, {"a": 2}),
    ],
)
def test_another_value_where_one_was_to_be_is_a_change(before: object, after: object) -> None:
    assert changed(of(compared("it", before, before)), of(compared("it", after, after))) == [("it", True)]


def test_a_value_that_moved_within_its_range_is_none() -> None:
    sides = [of(compared("it", value, between(1, 20))) for value in (10, 11)]
    assert changed(*sides) == [("it", False)]
    assert changed(of(premise("it", 5, at_least(1))), of(premise("it", 6, at_least(1)))) == [("it", False)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (compared("it", 11, 11, 12), compared("it", 11, 10, 11)),
        (compared("it", seconds(1.0), between(0, 2)), compared("it", seconds(9.0), between(0, 2))),
        (premise("it", 1, 1), premise("it", 1, 2)),
        (premise("it", 1, 1), compared("it", 1, 1)),
    ],
)
def test_another_judgement_or_role_is_a_change(before: Comparison, after: Comparison) -> None:
    assert changed(of(before), of(after)) == [("it", True)]


def test_another_kind_is_a_change_though_the_number_is_the_same() -> None:
    for before, after in ((3, ticks(3)), (seconds(1.0), 1.0), ([port(80)], [80]), ({"a": size(1)}, {"a": 1})):
        assert changed(of(compared("it", before, before)), of(compared("it", after, after))) == [("it", True)]
    assert changed(of(compared("it", 3, between(0, 9))), of(compared("it", ticks(3), between(0, 9)))) == [("it", True)]
    assert changed(of(compared("it", None, one_of(None, 3))), of(compared("it", 3, one_of(None, 3)))) == [("it", False)]


def test_a_port_is_drawn_from_the_range_that_the_run_set() -> None:
    sides = []
    for number in (1024, 1030):
        knobs = {"client": {"net.ipv4.ip_local_port_range": Knob("32768\t60999", "1024\t1050")}}
        sides.append(of(compared("it", port(number), port(number)), knobs=knobs))
    assert changed(*sides) == [("it", False)]


# Words decide nothing.


def reworded(text: str) -> str:
    """Other words, one for one; digits and signs too."""
    return "".join(chr(ord(letter) ^ 1) if letter in string.ascii_letters else letter for letter in text) + " anew"


def in_other_words(original: Run) -> Run:
    """A run of the same scenario, of which every label was written anew."""
    return msgspec.structs.replace(original, phases=tuple(map(_reworded_phase, original.phases)))


def _reworded_phase(phase: Phase) -> Phase:
    return msgspec.structs.replace(
        phase,
        title=reworded(phase.title),
        comparisons=tuple(msgspec.structs.replace(each, what=reworded(each.what)) for each in phase.comparisons),
        notes=tuple(Note(reworded(note.label), note.value) for note in phase.notes),
        series=tuple(msgspec.structs.replace(series, name=reworded(series.name)) for series in phase.series),
    )


TALKATIVE = (
    phase(
        "effect", "seconds until the port is drawn", compared("bytes, in ticks, between 1 and 2", 11, 10, 11),
        premise("ms at the source port", 7, 7), notes=(Note("seconds", value_of(3)),),
        series=(course("ticks", [(0, 1), (1, 2)]),),
    ),
    phase("control", "at least 3 offsets", checked("slab memory objects", 0, 0)),
)  # fmt: skip


def test_rewording_a_scenario_changes_nothing() -> None:
    original = run(phases=TALKATIVE)
    assert differences(original, in_other_words(original)) == []
    assert counter_differences(original, in_other_words(original)) == []
    moved = msgspec.structs.replace(original, phases=(phase("effect", "e", *_moved(TALKATIVE[0])), TALKATIVE[1]))
    here = [(each.place.kind, each.place.number, each.changed) for each in differences(original, moved)]
    there = [
        (each.place.kind, each.place.number, each.changed) for each in differences(original, in_other_words(moved))
    ]
    assert here == there == [(PhaseKind.EFFECT, 1, True)]


def _moved(phase: Phase) -> tuple[Comparison, ...]:
    first, *rest = phase.comparisons
    return msgspec.structs.replace(first, measured=value_of(12)), *rest


def test_a_number_in_a_label_makes_it_no_other_comparison() -> None:
    before, after = of(compared("of 128, waiting", 129, 129)), of(compared("of 256, waiting", 257, 257))
    assert changed(before, after) == [("of 256, waiting", True)]


# Places.


def test_phases_are_matched_by_kind_and_number() -> None:
    first = phase("effect", "a", compared("it", 1, 1)), phase("control", "c", checked("it", 0, 0))
    second = phase("control", "c", checked("it", 0, 0)), phase("effect", "b", compared("it", 1, 1))
    assert differences(run(phases=first), run(phases=second)) == []
    longer = (*first, phase("effect", "again", compared("that", 1, 1)))
    (difference,) = differences(run(phases=first), run(phases=longer))
    assert (difference.place.kind, difference.place.number, difference.judged) == (
        PhaseKind.EFFECT, 2, ("not measured", "document")
    )  # fmt: skip


def test_comparisons_are_matched_by_their_place_whatever_they_are_called() -> None:
    before = of(compared("a", 1, 1), compared("b", 2, 2))
    assert changed(before, of(compared("b", 1, 1), compared("a", 2, 2))) == []
    assert changed(before, of(compared("b", 2, 2), compared("a", 1, 1))) == [("b", True), ("a", True)]


def test_where_one_side_compared_more_equal_labels_are_lined_up() -> None:
    before = of(compared("a", 1, 1), compared("c", 3, 3))
    after = of(compared("a", 1, 1), compared("b", 2, 2), compared("c", 4, 4))
    assert changed(before, after) == [("b", True), ("c", True)]
    assert changed(after, before) == [("b", True), ("c", True)]
    more = of(compared("x", 1, 1), compared("y", 3, 3), compared("z", 9, 9))
    assert changed(before, more) == [("z", True)]


def test_counters_that_moved_otherwise() -> None:
    counters = [{"server": {"TcpExt.A": Moved(5, amount), "IpExt.InOctets": Moved(0, amount)}} for amount in (6, 8)]
    before, after = (
        run(phases=(msgspec.structs.replace(phase("effect", "e"), counters=each),)) for each in counters
    )  # fmt: skip
    (difference,) = counter_differences(before, after)
    assert (difference.name, difference.host, difference.before, difference.after) == ("TcpExt.A", "server", 1, 3)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [(2, 3, "+1, ×1.5"), (0, 5, "+5"), (1.5, 1.25, "-0.25, ×0.833"), (None, 1, "")],
)
def test_how_far_a_number_moved(before: float | None, after: float | None, words: str) -> None:
    assert distance(before, after) == words
