"""`harness history`: the evidence of many runs, out of directories and archives; bad input is one line and status 2."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner

from harness.cli import cli, main
from harness.evidence.directory import EvidenceDirectory
from harness.laws.ranges import at_least
from harness.report.history.gathering import gather
from harness.report.history.model import history
from harness.report.history.page import picture
from tests.report.made_evidence import checked, claim, compared, phases, run, save

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.report.conftest import Opened

DAY = 24 * 3600.0
FIRST = 1_780_000_000.0


def times(number: int) -> dict[str, Any]:
    """When the n-th session was, by the clock of whoever ran it; the kernels' own clock stood at the same moment."""
    return {"session": FIRST + number * DAY, "kept": FIRST + number * DAY + 90, "started": FIRST}


def took(seconds: float, **parts: Any) -> Any:
    """A run that measured a duration, which may be anything, and eleven that wait."""
    measured = compared("took", seconds, at_least(0.1)), compared("waiting", 11, 10, 11)
    return run(phases=phases(*measured), **parts)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight runs on two kernels: on 6.12 a limit breaks once, a flake, a number and a duration that move."""
    broken: dict[str, Any] = {"verdict": None, "outcome": "broken", "phases": phases(checked("overflows", 3, 4))}
    for number in range(8):
        version, when = f"6.12.{40 + number // 4}", times(number)
        limit = run(version=version, **(broken if number == 3 else {}), **when)
        fast = 0.5 + number % 3 / 100
        speed = took(fast if number < 5 else 0.9, version=version, duration=1.0 if number < 6 else 3.0, **when)
        flake = run(version=version, **when)
        if number == 6:
            flake = msgspec.structs.replace(flake, earlier=(run(version=version, **broken, **when),))
        here = tmp_path / "runs" / f"{number}" / "evidence"
        save(here, claim(), limit, run(version="7.3.4", **when))
        save(here, claim("queue.speed"), speed)
        save(here, claim("queue.flake"), flake)
        (here.parent / "junit.xml").write_text("<x/>")
        (here / "kcidb.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def called(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["history", *words], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_text_says_what_flakes_and_what_changed_when(place: Path) -> None:
    code, told, noted = called("runs")
    assert (code, noted) == (0, "")
    assert told.splitlines() == [
        "Linux 6.12: 8 runs on 6.12.40, 6.12.41",
        "  3 tests: 2 always said the same, 1 did not",
        "  flaky (2), by flips; ~ failed, and passed when it was run again",
        "    queue.flake test_limit[ipv4]  ✗✗✗✗✗✗~✗  2 flips, 1 pass since, flakes by week, newest first: 1 0 0 0",
        "    queue.limit test_limit[ipv4]  ✗✗✗‼✗✗✗✗  2 flips, 4 passes since",
        "  what changed when",
        "    2026-05-31 20:26  6.12.40  runs/3/evidence",
        "      queue.limit test_limit[ipv4]: refuted -> broken: overflows: 3, must be 4",
        "    2026-06-01 20:26  6.12.41  runs/4/evidence",
        "      kernel: 6.12.40-amd64 -> 6.12.41-amd64",
        "      queue.limit test_limit[ipv4]: broken -> refuted: before: overflows: 3, must be 4",
        "    2026-06-02 20:26  6.12.41  runs/5/evidence",
        "      queue.speed test_limit[ipv4]: effect 1: nobody accepts: took: 0.5 to 0.52 -> 0.9",
        "    2026-06-03 20:26  6.12.41  runs/6/evidence",
        "      duration of queue.speed test_limit[ipv4]: 1.0 s -> 3.0 s",
        "",
        "Linux 7.3: 8 runs on 7.3.4",
        "  1 test: 1 always said the same, 0 did not",
        "  nothing changed from run to run",
        "",
        "16 runs from 2026-05-28 to 2026-06-04, 3 claims, Linux 6.12, 7.3",
    ]


def test_all_lists_every_test_and_its_numbers(place: Path) -> None:
    _, told, _ = called("runs", "--all", "--line", "7.3")
    assert told.splitlines()[3:7] == [
        "  every test: its runs from the oldest to the newest, the newest verdict, the median duration and its spread",
        "    queue.limit test_limit[ipv4]  ✗✗✗✗✗✗✗✗  refuted, 0.25 s (0.25)",
        "      effect 1: nobody accepts: waiting: 11",
        "      control 1: each is accepted: refused: 0",
    ]


def test_claims_and_lines_are_chosen(place: Path) -> None:
    assert called("runs", "--claim", "queue.speed")[1].splitlines()[-1].endswith("1 claim, Linux 6.12")
    assert called("runs", "--claim", "queue", "--line", "7.3.4")[1].splitlines()[-1].endswith("1 claim, Linux 7.3")


def packed_as_zip(place: Path) -> str:
    with zipfile.ZipFile("runs.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(Path("runs").rglob("*.*")):
            archive.write(file)
    return "runs.zip"


def packed_as_tar(place: Path) -> str:
    with tarfile.open("runs.tar.gz", "w:gz") as archive:
        archive.add("runs")
    return "runs.tar.gz"


@pytest.mark.parametrize("pack", [packed_as_zip, packed_as_tar])
def test_an_archive_says_the_same_as_its_files_and_a_run_counts_once(place: Path, pack: Callable[[Path], str]) -> None:
    _, told, _ = called("runs", "--json")
    packed = pack(place)
    code, unpacked, _ = called(packed, "--json", "--url", "")
    assert code == 0
    assert unpacked.replace(f"{packed}!", "") == told
    assert called("runs", packed)[1] == called("runs")[1]


def test_an_artefact_within_a_directory_is_looked_into(place: Path) -> None:
    (place / "kept").mkdir()
    Path(packed_as_zip(place)).rename("kept/monday.zip")
    assert called("kept")[1].splitlines()[-1] == called("runs")[1].splitlines()[-1]


def test_what_is_packed_once_more_says_the_same(place: Path) -> None:
    """Evidence that a service packs file by file, and an artefact in a download of several."""
    expected = called("runs")[1].splitlines()[-1]
    packed_as_tar(place)
    packed_as_zip(place)
    for name in ("runs.tar.gz", "runs.zip"):
        with zipfile.ZipFile("download.zip", "w") as archive:
            archive.write(name)
        code, told, noted = called("download.zip")
        assert (code, told.splitlines()[-1], noted) == (0, expected, ""), name
    for file in sorted(Path("runs").rglob("*.json")):
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    code, told, noted = called("runs")
    assert (code, told.splitlines()[-1], noted) == (0, expected, "")


def test_a_damaged_member_is_left_out_and_the_others_are_told(place: Path) -> None:
    packed_as_zip(place)
    content = bytearray(Path("runs.zip").read_bytes())
    where = zipfile.ZipFile("runs.zip").getinfo("runs/3/evidence/queue.flake.json").header_offset + 100
    content[where : where + 50] = bytes(50)
    Path("runs.zip").write_bytes(content)
    code, text, noted = called("runs.zip")
    assert code == 2
    assert "queue.flake test_limit[ipv4]  ✗✗✗·✗✗~✗" in text
    (line,) = noted.splitlines()
    assert line.startswith("harness: runs.zip!runs/3/evidence/queue.flake.json: ")


def test_json_is_in_the_names_of_nipa(place: Path) -> None:
    code, told, _ = called("runs", "--json", "--remote", "us", "--url", "https://ci.example/")
    assert code == 0
    document = json.loads(told)
    newest = document["results"][0]
    assert (newest["executor"], newest["branch"], newest["remote"], newest["start"], newest["end"], newest["link"]) == (
        "tcp-harness-6.12",
        "linux-6.12.41-amd64-2026-06-04--20-26",
        "us",
        "2026-06-04 20:26:40+00:00",
        "2026-06-04 20:28:10+00:00",
        "https://ci.example/runs/7/evidence",
    )
    flaked = next(
        each for each in document["results"] if each["branch"].startswith("linux-6.12") and "-06-03-" in each["branch"]
    )
    assert flaked["results"][0] == {
        "test": "flake",
        "group": "queue",
        "result": "fail",
        "link": "https://ci.example/runs/6/evidence/queue.flake.json",
        "time": 0.25,
        "results": [
            {
                "test": "test_limit[ipv4]",
                "result": "fail",
                "time": 0.25,
                "retry": "pass",
                "comment": "overflows: 3, must be 4",
            }
        ],
        "retry": "pass",
    }
    assert document["flaky"] == [
        {"remote": "us", "executor": "tcp-harness-6.12", "test": "flake", "count": [1, 0, 0, 0]}
    ]
    of_limit = [each for each in document["stability"] if each["executor"].endswith("6.12") and each["test"] == "limit"]
    assert [each["subtest"] for each in of_limit] == [None, "test_limit[ipv4]"]
    assert (of_limit[0]["grp"], of_limit[0]["pass_cnt"], of_limit[0]["fail_cnt"], of_limit[0]["pass_cur"]) == (
        "queue", 7, 1, 4,
    )  # fmt: skip
    assert {(each["test"], each["cnt"]) for each in document["flips"]} == {
        ("limit", 2),
        ("limit", 0),
        ("speed", 0),
        ("flake", 2),
    }
    (series,) = [each for each in document["numbers"] if each["what"] == "took"]
    assert series["values"] == [0.5, 0.51, 0.52, 0.5, 0.51, 0.9, 0.9, 0.9]
    assert [each["what"] for each in document["changes"]] == ["verdict", "kernel", "verdict", "number", "duration"]


def test_a_machine_that_was_lost_is_a_crash(tmp_path: Path) -> None:
    lost = run(verdict=None, outcome="failed", phases=(), reason="WorkerLost: the test was not finished: panic")
    save(tmp_path, claim(), lost)
    (only,) = json.loads(called(str(tmp_path), "--json")[1])["results"]
    assert (only["results"][0]["result"], only["results"][0]["crashes"]) == (
        "fail",
        ["the test was not finished: panic"],
    )


def test_sessions_are_told_apart_by_the_clock_of_the_terminal(tmp_path: Path) -> None:
    """A machine in simulated time begins at the same moment each time; one directory may have what two runs left."""
    first, second = EvidenceDirectory(tmp_path, session=FIRST), EvidenceDirectory(tmp_path, session=FIRST + DAY)
    first.add(claim("queue.old"), run(started=5.0))
    second.add(claim("queue.new"), run(started=5.0))
    (line,) = history(gather([tmp_path])).lines
    assert [session.began for session in line.sessions] == [FIRST, FIRST + DAY]
    assert {test.claim: [one is not None for one in test.runs] for test in line.tests} == {
        "queue.new": [False, True],
        "queue.old": [True, False],
    }


def test_evidence_of_before_is_ordered_by_when_its_tests_began(tmp_path: Path) -> None:
    for name, started in (("a", 3e9), ("b", 2e9)):
        save(tmp_path / name, claim(), run(started=started))
    (line,) = history(gather([tmp_path])).lines
    assert [Path(session.place).name for session in line.sessions] == ["b", "a"]


# The page.


def test_the_page_shows_it_all_and_asks_for_nothing(place: Path, look: Callable[..., Opened]) -> None:
    assert called("runs", "--page", "out/h.html") == (0, "", "")
    opened = look(place / "out" / "h.html")
    text = opened.page.inner_text("body")
    assert (opened.said, opened.asked) == ([], [(place / "out" / "h.html").as_uri()])
    for told in (
        "History of TCP on Linux 6.12, 7.3",
        "refuted -> broken: overflows: 3, must be 4",
        "took: 0.5 to 0.52",
    ):
        assert told in text
    opened.page.click('[id="queue.speed-on-6.12"] summary')
    assert opened.page.locator("svg.course:visible").count() == 2


def test_what_evidence_says_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\x1b[2J"
    bad: dict[str, Any] = {"verdict": None, "outcome": "broken", "reason": evil, "phases": phases(checked(evil, 3, 4))}
    for number in range(3):
        parts = bad if number == 1 else {}
        save(
            tmp_path / evil.replace("/", "_") / str(number),
            claim(statement=evil),
            run(params=evil, **parts, **times(number)),
        )
    _, page, _ = called(str(tmp_path), "--page", "-")
    assert "<script" not in page
    assert "script-src" not in page
    assert "&lt;script&gt;" in page
    code, told, _ = called(str(tmp_path), "--all")
    assert code == 0
    assert "\x1b" not in told


def test_a_course_is_drawn_from_the_highest_to_the_lowest() -> None:
    assert 'points="0.0,1.0 60.0,17.0 120.0,9.0"' in picture([3, 1, 2])
    assert picture([1, 1, 1]) == picture([1, 2]) == ""


# Bad input.


def a_bomb() -> None:
    with zipfile.ZipFile("bad.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("queue.limit.json", b" " * (65 << 20))


def a_way_out(name: str) -> Callable[[], None]:
    def make() -> None:
        with tarfile.open("bad.tar", "w") as archive:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO(b""))

    return make


def a_way_out_of_an_inner_archive() -> None:
    a_way_out("../queue.limit.json")()
    with zipfile.ZipFile("outer.zip", "w") as archive:
        archive.write("bad.tar")


def a_cut() -> None:
    packed = packed_as_tar(Path())
    Path("bad.tgz").write_bytes(Path(packed).read_bytes()[:400])


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """`ended("history", …)`: how the command ends, and all that it says."""

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["harness", *words])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, said.out + said.err

    return run


NAME_THEM = "; name directories that pytest's --tcp-evidence wrote, or archives of them"


@pytest.mark.parametrize(
    ("make", "words", "told"),
    [
        (lambda: Path("empty").mkdir(), ["empty"], f"empty: no evidence here{NAME_THEM}"),
        (lambda: None, ["none"], "none: cannot be read: No such file or directory"),
        (lambda: None, ["runs", "--claim", "no.one"], f"runs: no evidence of no.one here{NAME_THEM}"),
        (lambda: None, ["runs", "--line", "6.1"], "no evidence of Linux 6.1 here; there is 6.12, 7.3"),
        (lambda: Path("x").write_text("x"), ["x"], f"x: no evidence here{NAME_THEM}"),
        (
            a_bomb,
            ["bad.zip"],
            "bad.zip: unpacks to more than 64 MiB: not read further; unpack it, and name the files",
        ),
        (
            a_way_out("../../queue.limit.json"),
            ["bad.tar"],
            "bad.tar: has a file named '../../queue.limit.json', which leads out of the archive: nothing of it is read",
        ),
        (
            a_way_out("/etc/queue.limit.json"),
            ["runs", "bad.tar"],
            "bad.tar: has a file named '/etc/queue.limit.json', which leads out of the archive: nothing of it is read",
        ),
        (
            a_way_out_of_an_inner_archive,
            ["outer.zip"],
            "outer.zip!bad.tar: has a file named '../queue.limit.json', which leads out of the archive: "
            "nothing of it is read",
        ),
        (
            a_cut,
            ["bad.tgz"],
            "bad.tgz: no evidence here (bad.tgz: cannot be read to its end: Compressed file ended before the "
            f"end-of-stream marker was reached){NAME_THEM}",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_a_usage_exit_code(
    place: Path, make: Callable[[], None], words: list[str], told: str, *, ended: Callable[..., tuple[int, str]]
) -> None:
    make()
    assert ended("history", *words) == (2, f"harness: {told}\n")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "harness: runs/3/evidence/queue.flake.json: left out: not an evidence file: Input data was truncated\n"),
        (
            '{"schema":1}',
            "harness: runs/3/evidence/queue.flake.json: left out: evidence of schema 1, this harness reads schema 2: "
            "run the scenarios again\n",
        ),
    ],
)
def test_what_is_damaged_is_named_and_the_rest_is_told(place: Path, content: str, told: str) -> None:
    (place / "runs" / "3" / "evidence" / "queue.flake.json").write_text(content)
    code, text, noted = called("runs")
    assert (code, noted) == (2, told)
    assert "queue.flake test_limit[ipv4]  ✗✗✗·✗✗~✗" in text


def test_a_run_that_cannot_be_read_is_named_with_its_file(place: Path) -> None:
    file = place / "runs" / "3" / "evidence" / "queue.flake.json"
    file.write_bytes(file.read_bytes().replace(b'"duration":0.25', b'"duration":"?"'))
    code, _, noted = called("runs")
    assert code == 2
    assert noted.startswith("harness: runs/3/evidence/queue.flake.json: run 1 is left out: Expected `float`, got `str`")


def test_a_page_or_json(place: Path) -> None:
    assert called("runs", "--json", "--page", "x.html")[0] == 2
