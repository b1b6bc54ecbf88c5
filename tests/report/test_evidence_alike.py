"""Evidence that is the same in another shape says the same: split, joined, in another order, twice, renamed."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from harness.claims.register import Register
from harness.evidence.differences import differences
from harness.evidence.types import Claim, Kernel, Knob, Outcome, Verdict
from harness.evidence.walk import Standing, walk
from harness.laws.kernel import age
from harness.plugin.baseline import Baseline
from harness.report import kcidb, ktap, page, results
from harness.report.comparison.changes import changes
from harness.report.comparison.exact import exact
from harness.report.comparison.sides import Sides, pairs
from harness.report.comparison.verdicts import verdicts
from harness.report.edition import page as edition
from harness.report.history import nipa
from harness.report.history.gathering import gather
from harness.report.history.model import history
from harness.report.matrix import making
from harness.report.table import Table, read
from tests.report.made_evidence import checked, claim, compared, phase, phases, run, save

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.evidence.types import Run

BROKEN: dict[str, Any] = {"verdict": None, "outcome": "broken", "reason": "three"}
# From the oldest to the newest; as text they sort otherwise.
VERSIONS = ("6.9.0", "6.12.9", "6.12.10", "6.18.44", "7.0.0-rc1", "7.0.0-rc2", "7.0.0-rc10", "7.0.0")
NOON = 1_780_000_000.0


def some_runs() -> list[tuple[Claim, Run]]:
    """Runs of two claims on all kernels, some of which went wrong, with IPv4 and with IPv6."""
    made = []
    for number, (version, name, family) in enumerate(
        itertools.product(VERSIONS, ("queue.limit", "queue.speed"), ("ipv4", "ipv6"))
    ):
        parts = BROKEN if number % 7 == 3 else {"outcome": "unsettled", "verdict": None} if number % 5 == 2 else {}
        waited = compared("waiting", 11, 10, 11), compared("took", number / 7, number / 7)
        of = claim(name)
        made.append((of, run(f"test_{of.id}", family, version=version, phases=phases(*waited), **parts)))
    return made


def kept(directory: Path, runs: Sequence[tuple[Claim, Run]]) -> Path:
    """Write runs, a file for each claim."""
    for of in {each.name: each for each, _ in runs}.values():
        save(directory, of, *(each for about, each in runs if about.name == of.name))
    return directory


# A change of the evidence: it is written to directories below one, which are named in an order.


def as_it_is(place: Path, runs: list[tuple[Claim, Run]]) -> list[Path]:
    return [kept(place / "a", runs)]


def backwards(place: Path, runs: list[tuple[Claim, Run]]) -> list[Path]:
    return [kept(place / "a", runs[::-1])]


def by_family(place: Path, runs: list[tuple[Claim, Run]]) -> list[Path]:
    return [
        kept(place / family, [each for each in runs if each[1].params == family]) for family in ("ipv6", "ipv4")
    ]  # fmt: skip


def by_kernel(place: Path, runs: list[tuple[Claim, Run]]) -> list[Path]:
    of = {version: [each for each in runs if each[1].kernel.version == version] for version in VERSIONS}
    return [kept(place / version, of[version]) for version in sorted(VERSIONS)]


def by_claim(place: Path, runs: list[tuple[Claim, Run]]) -> list[Path]:
    return [kept(place / name, [each for each in runs if each[0].id == name]) for name in ("speed", "limit")]


def named_twice(place: Path, runs: list[tuple[Claim, Run]]) -> list[Path]:
    kept(place / "a", runs)
    (place / "b").symlink_to("a")
    return [place / "a", place / "b", place / "b" / ".." / "a", place / "a"]


def copied_and_renamed(place: Path, runs: list[tuple[Claim, Run]]) -> list[Path]:
    kept(place / "a", runs)
    shutil.copy(place / "a" / "queue.limit.json", place / "a" / "copy.limit.json")
    (place / "a" / "queue.speed.json").rename(place / "a" / "a.renamed.json")
    return [place / "a"]


def times_of_files(place: Path, runs: list[tuple[Claim, Run]]) -> list[Path]:
    for number, file in enumerate(sorted(kept(place / "a", runs).iterdir())):
        os.utime(file, (9e9 * (1 - number), 9e9 * (1 - number)))
    return [place / "a"]


CHANGES = [backwards, by_family, by_kernel, by_claim, named_twice, copied_and_renamed, times_of_files]


def shown(table: Table) -> dict[str, str]:
    """All that is made of a table."""
    return {"page": page.render(table), "ktap": ktap.write(table), "kcidb": kcidb.write(table),
            "json": results.write(table)}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_reports_and_the_matrix_are_the_same_bytes(
    tmp_path: Path, change: Callable[[Path, list[tuple[Claim, Run]]], list[Path]]
) -> None:
    places = change(tmp_path / "changed", some_runs())
    whole = as_it_is(tmp_path / "whole", some_runs())
    as_whole, matrix = shown(read(whole)), making.dump(making.of_evidence(whole))
    for order in (places, places[::-1]):
        assert shown(read(order)) == as_whole
        assert making.dump(making.of_evidence(order)) == matrix
    assert shown(read(places)) == as_whole


@pytest.mark.parametrize("change", CHANGES)
def test_a_history_is_the_same(
    tmp_path: Path, change: Callable[[Path, list[tuple[Claim, Run]]], list[Path]]
) -> None:  # fmt: skip
    runs = [(of, msgspec.structs.replace(each, session=NOON, kept=NOON + 9)) for of, each in some_runs()]
    whole = as_it_is(tmp_path / "whole", runs)
    places = change(tmp_path / "changed", runs)
    told = {re.sub(r'"link": ".*?"', "", nipa.write(history(gather(order)))) for order in (whole, places, places[::-1])}
    assert len(told) == 1


def test_the_formats_agree_on_how_many_came_out_how(tmp_path: Path) -> None:
    """KCIDB said PASS of a run that settled nothing, of which KTAP says SKIP and the page ?."""
    unsettled = [(claim("queue.other"), run("test_other", verdict=None)), (claim("queue.other"), run("test_more"))]
    table = read([kept(tmp_path, [*some_runs(), *unsettled])])
    says = {"PASS": "passed", "FAIL": "wrong", "ERROR": "wrong", "SKIP": "skipped"}
    of_kcidb = Counter(says[test["status"]] for test in json.loads(kcidb.write(table))["tests"])
    lines = [line.strip() for line in ktap.write(table).splitlines() if re.match(r" {4}(ok|not ok)", line)]
    skipped = sum(" # SKIP" in line for line in lines)
    wrong = sum(line.startswith("not ok") for line in lines)
    assert of_kcidb == {"passed": len(lines) - skipped - wrong, "wrong": wrong, "skipped": skipped}
    states = Counter(each["state"] for of in json.loads(results.write(table))["claims"] for each in of["results"])
    chips = re.findall(r"</span> (\d+) ([a-z ]+)</span></li>", page.render(table))
    assert {said: int(many) for many, said in chips} == states


# Kernels.


def test_kernels_stand_from_the_oldest_to_the_newest(tmp_path: Path) -> None:
    """7.0-rc1 stood behind 7.0, rc10 before rc2; and the corrected edition was of the candidate."""
    for each in VERSIONS:
        save(tmp_path / each, claim(), run(version=each))
    table = read([tmp_path / each for each in sorted(VERSIONS)])
    assert tuple(column.kernel.version for column in table.columns) == VERSIONS
    orders = [making.of_evidence([tmp_path / each for each in order]) for order in (VERSIONS, VERSIONS[::-1])]
    assert [tuple(kernel.version for kernel in matrix.kernels) for matrix in orders] == [VERSIONS, VERSIONS]
    made = edition.corrected_documents(table, {}, edition.Texts(Register({}), {}))
    assert made is not None
    assert (made.kernel.version, made.others) == (VERSIONS[-1], VERSIONS[:-1])


def test_of_one_version_the_build_with_the_lower_number_is_older() -> None:
    releases = ["6.1.0-10-amd64", "6.1.0-100-amd64", "6.1.0-9-amd64"]
    assert sorted(releases, key=lambda release: age("6.1.27", release)) == [releases[2], *releases[:2]]


def test_parts_of_a_run_on_two_builds_of_a_release_stand_in_the_columns_of_these(tmp_path: Path) -> None:
    """The part that had a test on one of them alone had a column of its own, without a name."""
    save(tmp_path / "a", claim("queue.one"), *(run("test_one", kernel_name=name) for name in ("old", "new")))
    save(tmp_path / "b", claim("queue.two"), run("test_two", kernel_name="old"))
    assert [column.place for column in read([tmp_path / "a", tmp_path / "b"]).columns] == ["new", "old"]


# Which of two counts.


@pytest.mark.parametrize("order", [("monday", "friday"), ("friday", "monday")])
def test_a_claim_is_told_as_the_newest_run_has_it(tmp_path: Path, order: tuple[str, str]) -> None:
    """The directory that was named first decided, or last; of runs with the same time that still must not."""
    for number, day in enumerate(("monday", "friday")):
        which = claim(statement=f"As on {day}.")
        save(tmp_path / day, which, run(version=f"6.{number}", kept=NOON + number, session=NOON + number))
    places = [tmp_path / day for day in order]
    assert read(places).rows[0].claim.statement == "As on friday."
    assert history(gather(places)).claims["queue.limit"].statement == "As on friday."


def test_of_different_runs_of_a_test_in_a_directory_the_newest_counts_and_that_is_said(tmp_path: Path) -> None:
    """Both counted in a cell, and a comparison took the one whose file came last."""
    for number, (old, new) in enumerate((("a", "b"), ("b", "a"))):
        place = tmp_path / str(number)
        save(place, claim(), run(kept=NOON, **BROKEN)).rename(place / f"{old}.json")
        save(place, claim(), run(kept=NOON + 1)).rename(place / f"{new}.json")
        table = read([place])
        assert [cell.said for _, _, cell in table.cells()] == ["refuted"]
        (notice,) = table.notices
        assert "is here more than once: the newest counts" in notice


def test_of_copies_with_other_statements_that_of_the_newest_run_counts_in_any_order_of_files(tmp_path: Path) -> None:
    """The newest run was told with the statement of the first file, and a line said twice that there are three."""
    for number, names in enumerate(itertools.permutations("abc")):
        place = tmp_path / str(number)
        for day, name in enumerate(names):
            which = claim(statement=f"As on day {day}.")
            save(place, which, run(kept=NOON + day)).rename(place / f"{name}.json")
        table = read([place])
        assert table.rows[0].claim.statement == "As on day 2."
        assert [len(cell.entries) for _, _, cell in table.cells()] == [1]
        assert len(table.notices) == 1


def test_what_cannot_be_read_is_told_alike_in_any_order(tmp_path: Path) -> None:
    """Of two directories nobody could tell which of them was meant."""
    for name in ("a", "b"):
        save(tmp_path / name, claim(), run())
        (tmp_path / name / "queue.cut.json").write_text("{")
    tables = [read([tmp_path / each for each in order]) for order in ("ab", "ba")]
    assert tables[0].notices == tables[1].notices
    starts = [notice.partition(": left out")[0] for notice in tables[0].notices]
    assert starts == [f"{tmp_path}/a/queue.cut.json", f"{tmp_path}/b/queue.cut.json"]
    assert shown(tables[0]) == shown(tables[1])


@pytest.mark.parametrize("order", [("early", "late"), ("late", "early")])
def test_of_a_test_that_was_run_again_the_history_has_all_attempts(tmp_path: Path, order: tuple[str, str]) -> None:
    """What was kept while the session ran, and at its end: the one that was named first counted."""
    failed = run(session=NOON, kept=NOON + 1, **BROKEN)
    save(tmp_path / "early", claim(), failed)
    save(tmp_path / "late", claim(), run(session=NOON, kept=NOON + 2, earlier=(failed,)))
    made = history(gather([tmp_path / each for each in order]))
    assert [(each.said, each.is_flaky) for _, each in made.lines[0].tests[0].seen] == [("refuted", True)]
    assert made.sessions[0].place == str(tmp_path / "late")


@pytest.mark.parametrize("session", [0.0, NOON])
def test_an_archive_and_its_files_are_the_same_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: float
) -> None:
    """Of evidence from before a session's time was kept, each run counted twice."""
    monkeypatch.chdir(tmp_path)
    kept(Path("runs"), [(of, msgspec.structs.replace(each, session=session)) for of, each in some_runs()])
    with tarfile.open("runs.tar.gz", "w:gz") as archive:
        archive.add("runs")
    places = [Path("runs"), Path("runs.tar.gz")]
    told = {nipa.write(history(gather(order))) for order in (places[:1], places, places[::-1])}
    assert len(told) == 1


def test_a_baseline_of_several_kernels_of_a_line_is_the_newest_of_them() -> None:
    """It was the one that had run the test last, by clocks of kernels that were not the same."""
    times = {"6.12.9": 300.0, "6.12.10": 100.0, "6.12.8": 200.0}
    made = [run(version=version, session=NOON, started=when) for version, when in times.items()]
    here = run(version="6.12.11", session=NOON + 1)
    for order in itertools.permutations(made):
        baseline = Baseline(Path("b"), {("queue.limit", here.test, "6.12"): list(order)})
        against = baseline.counterpart("queue.limit", here)
        assert against is not None
        assert against.kernel.version == "6.12.10"


# Comparisons.


def sides(tmp_path: Path, *words: str) -> Sides:
    """Two directories, side by side."""
    places = [tmp_path / word for word in words]
    ((both,), _) = pairs(read(places), *places)
    return both


def in_two_files(first: str, second: str) -> list[Run]:
    """Two tests of a claim that have the same name, in two files."""
    return [
        run(nodeid=f"scenarios/{name}.py::test_limit[ipv4]", verdict=verdict)
        for name, verdict in (("test_a", first), ("test_b", second))
    ]


def test_tests_of_one_name_in_two_files_are_two_tests(tmp_path: Path) -> None:
    """Of the two the second alone was compared: that the first came out otherwise was gone."""
    save(tmp_path / "a", claim(), *in_two_files("holds", "holds"))
    save(tmp_path / "b", claim(), *in_two_files("refuted", "holds"))
    answer = verdicts(sides(tmp_path, "a", "b"))
    assert not answer.same
    names = ["scenarios/test_a.py::test_limit[ipv4]", "scenarios/test_b.py::test_limit[ipv4]"]
    assert list(answer.claims[0].before) == names
    of_history = history(gather([tmp_path / "a"]))
    assert [test.name for test in of_history.lines[0].tests] == names
    rows = nipa.document(of_history).stability
    assert [row.subtest for row in rows] == [None, *names]


def test_a_comparison_mirrors_where_one_side_has_more(tmp_path: Path) -> None:
    """What is lined up by labels was not the same from both sides, and so were the numbers of what changed."""
    for one, other in itertools.product(("abcab", "ab", "bca", "cabbac"), repeat=2):
        ours, theirs = (
            run(phases=(phase("effect", "e", *(checked(what, n, n) for n, what in enumerate(labels))),))
            for labels in (one, other)
        )
        there, back = ([(each.before, each.after) for each in differences(*pair)] for pair in
                       ((ours, theirs), (theirs, ours)))  # fmt: skip
        assert there == [(before, after) for after, before in back]
        assert one != other or not there


def test_defaults_that_were_seen_as_often_are_the_same_in_another_order(tmp_path: Path) -> None:
    """The one that was seen first counted, and a sysctl seemed to have another default."""
    for place, values in (("a", ("1", "2")), ("b", ("2", "1"))):
        runs = [
            run(f"test_{n}", phases=(phase("effect", "e", knobs={"server": {"net.x": Knob(value, "3")}}),))
            for n, value in enumerate(values)
        ]
        save(tmp_path / place, claim(), *runs)
    assert changes(sides(tmp_path, "a", "b")).defaults == []


@pytest.mark.parametrize(("one", "other"), [("1", "1.0"), ("0", "-0.0"), ("0.0", "-0.0"), ("100", "1e2")])
def test_a_number_is_the_same_however_json_has_it(tmp_path: Path, one: str, other: str) -> None:
    """Byte for byte a file differed that another program had read and written."""
    for place, number in (("a", one), ("b", other)):
        file = save(tmp_path / place, claim(), run(phases=phases(compared("took", 7.5, 7.5))))
        file.write_text(file.read_text().replace("7.5", number))
    both = sides(tmp_path, "a", "b")
    assert (exact(both).same, changes(both).same, verdicts(both).same) == (True, True, True)


def test_a_number_of_too_many_digits_is_left_out_and_said(tmp_path: Path) -> None:
    """A history ended with a traceback: nothing that is written can have it."""
    file = save(tmp_path, claim(), run("test_long"), run("test_more"))
    file.write_text(file.read_text().replace('"value":11', f'"value":{"1" * 30}', 1))
    notices = read([tmp_path]).notices
    assert [re.sub(r".*left out: ", "", notice) for notice in notices] == [
        "a count of more than 63 bits - at `$.phases[0].comparisons[0].measured`"
    ]
    assert [test.name for test in history(gather([tmp_path])).lines[0].tests] == ["test_more[ipv4]"]


def test_a_comparison_with_itself_is_of_all_and_finds_nothing(tmp_path: Path) -> None:
    kept(tmp_path / "a", some_runs())
    (tmp_path / "b").symlink_to("a")
    table = read([tmp_path / "a", tmp_path / "b"])
    both, missing = pairs(table, tmp_path / "a", tmp_path / "b")
    assert (len(both), missing) == (len(VERSIONS), [])
    assert all(changes(each).same and changes(each).compared for each in both)


# Boundaries.


def test_what_a_walk_finds_does_not_depend_on_which_run_was_read_last() -> None:
    """Of several runs on a kernel the last counted: one that measured the same on both sides, or one that did not."""
    boundary = "tw-reuse-by-monotonic-seconds"

    def ran(version: str, value: int) -> tuple[str, Run]:
        measured = phase("effect", "e", compared("port", value, value))
        kernel = Kernel(version, version)
        return "queue.limit", run(
            kernel=kernel, verdict=Verdict.HOLDS, outcome=Outcome.EXPECTED, asked=(boundary,), phases=(measured,)
        )  # fmt: skip

    several = [ran("4.18.1", 1), ran("4.20", 2), ran("4.20", 1), ran("7.0.0-rc1", 2), ran("7.0.0", 2)]
    found = [walk({"queue.limit": claim()}, order) for order in itertools.permutations(several)]
    assert all(each == found[0] for each in found)
    assert found[0].kernels == ("4.18.1", "4.20", "7.0.0-rc1")
    (finding,) = (each for each in found[0].findings if each.name == boundary)
    assert (finding.standing, finding.between) == (Standing.CONFIRMED, ("4.18.1", "7.0.0-rc1"))


# The machine that reads.


@pytest.mark.parametrize("words", [("report", "a", "-o", "-"), ("report", "a", "--format", "json"), ("matrix", "a")])
def test_neither_locale_nor_time_zone_nor_seed_changes_a_byte(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Where the locale has no sign for a verdict it was a traceback."""
    save(tmp_path / "a", claim(statement="Zehn dürfen warten: 队列"), run(reason="<b>&ü</b>", kept=1_767_225_599.9))
    worlds = [
        {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
        {"PYTHONHASHSEED": "5", "LC_ALL": "tr_TR.UTF-8", "TZ": "Pacific/Kiritimati", "PYTHONIOENCODING": "latin-1"},
    ]
    command = [sys.executable, "-c", "from harness.cli import main; main()", *words]
    said = [
        subprocess.run(command, cwd=tmp_path, env=os.environ | world, capture_output=True, check=True).stdout
        for world in worlds
    ]
    assert said[0] == said[1]
    assert "dürfen" in said[0].decode()


# The matrix.


@pytest.mark.parametrize("order", [("four", "six"), ("six", "four")])
def test_a_matrix_of_a_run_in_two_directories_is_that_of_the_whole(tmp_path: Path, order: tuple[str, str]) -> None:
    """Of a claim only what the last directory had was told: what was wrong with IPv4 in the other was gone."""
    runs = run(params="ipv4", **BROKEN), run(params="ipv6")
    save(tmp_path / "whole", claim(), *runs)
    for place, part in zip(("four", "six"), runs, strict=True):
        save(tmp_path / place, claim(), part)
    whole = making.of_evidence([tmp_path / "whole"])
    assert whole.claims[0].cells["6.1.2"].said == "broken"
    assert making.dump(making.of_evidence([tmp_path / place for place in order])) == making.dump(whole)


def test_a_matrix_is_the_same_in_one_step_or_in_several(tmp_path: Path) -> None:
    for each in VERSIONS:
        save(tmp_path / each, claim(), run(version=each))
    whole = making.dump(making.of_evidence([tmp_path / each for each in VERSIONS]))
    for order in (VERSIONS, VERSIONS[::-1], sorted(VERSIONS)):
        made = making.of_evidence([])
        for each in order:
            made = making.join(made, making.of_evidence([tmp_path / each]))
        assert making.dump(made) == whole


def test_two_builds_of_one_version_are_told_together_in_a_matrix(tmp_path: Path) -> None:
    """The name of the build decided which of the two was told."""
    for name, broken in (("after", "a"), ("before", "b")):
        runs = [run(kernel_name=each, **(BROKEN if each == broken else {})) for each in ("a", "b")]
        save(tmp_path / name, claim(), *runs)
        assert making.of_evidence([tmp_path / name]).claims[0].cells["6.1.2"].said == "broken"


def test_of_a_test_that_two_directories_have_the_last_counts_in_a_matrix(tmp_path: Path) -> None:
    save(tmp_path / "monday", claim(), run(**BROKEN))
    save(tmp_path / "friday", claim(), run())
    cells = [
        making.of_evidence([tmp_path / a, tmp_path / b]).claims[0].cells["6.1.2"]
        for a, b in (("monday", "friday"), ("friday", "monday"))
    ]
    assert [(cell.said, cell.runs) for cell in cells] == [("refuted", 1), ("broken", 1)]
