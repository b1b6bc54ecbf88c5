"""Evidence files: one a claim, whole at every moment, and refused if of another schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from harness import files
from harness.errors import BadInput
from harness.evidence.codec import decode_settled, encode_settled, read, read_directory
from harness.evidence.directory import EvidenceDirectory
from harness.evidence.types import SCHEMA, Outcome
from tests.unit.evidence_of_a_run import a_claim, a_run, checked, noted

if TYPE_CHECKING:
    from pathlib import Path

CLAIM = msgspec.structs.replace(a_claim(), statement="十个在等")


def test_runs_of_a_claim_meet_in_one_file(tmp_path: Path) -> None:
    directory = EvidenceDirectory(tmp_path / "out" / "evidence")
    directory.add(CLAIM, a_run("b"))
    directory.add(CLAIM, a_run("a"))
    directory.add(CLAIM, a_run("a", "5.10"))
    directory.add(CLAIM, a_run("a", outcome=Outcome.FAILED))
    file = read(tmp_path / "out" / "evidence" / "queue.limit.json")
    assert (file.schema, file.claim) == (SCHEMA, CLAIM)
    assert [(run.kernel.release, run.nodeid, run.outcome) for run in file.runs] == [
        ("5.10", "a", "expected"),
        ("6.1", "a", "failed"),
        ("6.1", "b", "expected"),
    ]
    assert [path.name for path in directory.path.iterdir()] == ["queue.limit.json"]


def test_a_session_begins_anew(tmp_path: Path) -> None:
    EvidenceDirectory(tmp_path).add(CLAIM, a_run("old"))
    EvidenceDirectory(tmp_path).add(CLAIM, a_run("new"))
    assert [run.nodeid for run in read(tmp_path / "queue.limit.json").runs] == ["new"]


def test_packets_lie_beside_and_are_named_by_the_run(tmp_path: Path) -> None:
    directory = EvidenceDirectory(tmp_path)
    directory.add(CLAIM, a_run("a", params="ipv4-10/5"), b"first")
    directory.add(CLAIM, a_run("b", params="ipv4-10/5"), b"second")
    directory.add(CLAIM, a_run("c", params=""), b"third")
    directory.add(CLAIM, a_run("a", params="ipv4-10/5"), b"again")
    files = [run.packets for run in read(tmp_path / "queue.limit.json").runs]
    assert files == ["queue.limit-ipv4-10-5.pcapng", "queue.limit-ipv4-10-5-2.pcapng", "queue.limit.pcapng"]
    assert [(tmp_path / file).read_bytes() for file in files] == [b"again", b"second", b"third"]


def test_an_attempt_that_is_not_the_last_is_kept_with_its_packets(tmp_path: Path) -> None:
    directory = EvidenceDirectory(tmp_path)
    directory.add(CLAIM, a_run("a", outcome=Outcome.FAILED), b"first", comes_again=True)
    directory.add(CLAIM, a_run("a", outcome=Outcome.BROKEN), b"second", comes_again=True)
    directory.add(CLAIM, a_run("b"), b"another")
    directory.add(CLAIM, a_run("a"), b"third")
    of_a, of_b = read(tmp_path / "queue.limit.json").runs
    assert of_a.is_flaky
    assert not of_b.is_flaky
    assert [(run.outcome, run.earlier) for run in of_a.earlier] == [(Outcome.FAILED, ()), (Outcome.BROKEN, ())]
    files = [run.packets for run in (*of_a.earlier, of_a, of_b)]
    assert [(tmp_path / file).read_bytes() for file in files] == [b"first", b"second", b"third", b"another"]
    # The same test once more, for another reason, takes its place.
    directory.add(CLAIM, a_run("a"))
    assert read(tmp_path / "queue.limit.json").runs[0].earlier == ()


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"evidence cannot be written to .*file.*: Not a directory; see --tcp-evidence"):
        EvidenceDirectory(tmp_path / "file" / "x").add(CLAIM, a_run("a"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "x.json: not an evidence file: "),
        ("[]", "x.json: not an evidence file: Expected `object`, got `array`"),
        (
            json.dumps({"schema": 1}),
            "x.json: evidence of schema 1, this harness reads schema 2: run the scenarios again$",
        ),
        (
            json.dumps({"schema": 2, "harness": 5}),
            r"x.json: not an evidence file: Expected `str`, got `int` - at `\$.harness`",
        ),
        ("[" * 100_000, "x.json: not an evidence file: "),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(BadInput, match=complaint):
        read(tmp_path / "x.json")


def test_what_can_be_read_of_a_directory_is_read_and_the_rest_is_named(tmp_path: Path) -> None:
    directory = EvidenceDirectory(tmp_path)
    directory.add(CLAIM, a_run("a"))
    directory.add(CLAIM, a_run("b"))
    file = tmp_path / "queue.limit.json"
    file.write_bytes(file.read_bytes().replace(b'"nodeid":"a"', b'"nodeid":5'))
    (tmp_path / "half.json").write_bytes(file.read_bytes()[:-20])
    (tmp_path / "other.json").write_text('{"hello": "world"}')
    evidence = read_directory(tmp_path)
    assert [run.nodeid for file in evidence.files for run in file.runs] == ["b"]
    assert [notice.partition(":")[0] for notice in evidence.notices] == ["half.json", "other.json", "queue.limit.json"]
    assert "run 1 is left out: Expected `str`, got `int` - at `$.nodeid`" in evidence.notices[2]
    (tmp_path / "old.json").write_text('{"schema": 1}')
    with pytest.raises(BadInput, match=r"old\.json: evidence of schema 1"):
        read_directory(tmp_path)


def test_a_run_travels_with_its_claim() -> None:
    run = a_run(phases=(checked([1, None, True, 2.5], (1, 2)), noted({"a": b"x", "b": "\ud800"})))
    settled = decode_settled(encode_settled(CLAIM, run))
    assert (settled.claim, settled.run) == (CLAIM, run)
    with pytest.raises(BadInput, match="a worker's evidence cannot be read"):
        decode_settled("{}")


@pytest.mark.parametrize("name", ["../../forged", "a/b", "", "Limit"])
def test_a_claim_of_a_workers_cannot_write_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match=r"not GROUP\.ID in lower case"):
        EvidenceDirectory(tmp_path / "evidence").add(msgspec.structs.replace(CLAIM, id=name), a_run("a"))
    assert not list(tmp_path.iterdir())


def test_a_reader_keeps_the_whole_file_that_it_opened(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    target.write_bytes(b"before")
    with target.open("rb") as reader:
        files.write(target, b"after")
        assert reader.read() == b"before"
    assert target.read_bytes() == b"after"


def test_a_run_says_when_it_was_kept_and_by_which_session(tmp_path: Path) -> None:
    first, second = (EvidenceDirectory(tmp_path, session=began) for began in (1000.0, 2000.0))
    first.add(CLAIM, a_run("a", outcome=Outcome.FAILED), comes_again=True)
    first.add(CLAIM, a_run("a"))
    second.add(msgspec.structs.replace(CLAIM, id="other"), a_run("b"))
    (of_a,), (of_b,) = (read(tmp_path / f"queue.{name}.json").runs for name in ("limit", "other"))
    assert [run.session for run in (of_a, *of_a.earlier, of_b)] == [1000, 1000, 2000]
    assert of_a.earlier[0].kept <= of_a.kept <= of_b.kept
