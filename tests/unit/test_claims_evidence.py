"""Evidence files: one a claim, whole at every moment, and refused if of another schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from harness.claims.evidence import SCHEMA, EvidenceDirectory, read, write_whole
from harness.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

CLAIM = {"name": "queue.limit", "statement": "十个在等", "sources": [], "expectations": []}


def run_of(nodeid: str, kernel: str = "6.1", params: str = "ipv4") -> dict[str, Any]:
    return {"kernel": {"release": kernel}, "nodeid": nodeid, "params": params, "outcome": "expected"}


def test_runs_of_a_claim_meet_in_one_file(tmp_path: Path) -> None:
    directory = EvidenceDirectory(tmp_path / "out" / "evidence")
    directory.add(CLAIM, run_of("b"))
    directory.add(CLAIM, run_of("a"))
    directory.add(CLAIM, run_of("a", kernel="5.10"))
    directory.add(CLAIM, run_of("a") | {"outcome": "failed"})
    found = read(tmp_path / "out" / "evidence" / "queue.limit.json")
    assert found["schema"] == SCHEMA
    assert found["claim"] == CLAIM
    assert [(run["kernel"]["release"], run["nodeid"], run["outcome"]) for run in found["runs"]] == [
        ("5.10", "a", "expected"),
        ("6.1", "a", "failed"),
        ("6.1", "b", "expected"),
    ]
    assert [path.name for path in directory.path.iterdir()] == ["queue.limit.json"]


def test_a_session_begins_anew(tmp_path: Path) -> None:
    EvidenceDirectory(tmp_path).add(CLAIM, run_of("old"))
    EvidenceDirectory(tmp_path).add(CLAIM, run_of("new"))
    assert [run["nodeid"] for run in read(tmp_path / "queue.limit.json")["runs"]] == ["new"]


def test_packets_lie_beside_and_are_named_by_the_run(tmp_path: Path) -> None:
    directory = EvidenceDirectory(tmp_path)
    directory.add(CLAIM, run_of("a", params="ipv4-10/5"), b"first")
    directory.add(CLAIM, run_of("b", params="ipv4-10/5"), b"second")
    directory.add(CLAIM, run_of("c", params=""), b"third")
    directory.add(CLAIM, run_of("a", params="ipv4-10/5"), b"again")
    files = [run["packets"] for run in read(tmp_path / "queue.limit.json")["runs"]]
    assert files == ["queue.limit-ipv4-10-5.pcapng", "queue.limit-ipv4-10-5-2.pcapng", "queue.limit.pcapng"]
    assert [(tmp_path / file).read_bytes() for file in files] == [b"again", b"second", b"third"]


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"evidence cannot be written to .*file.*: Not a directory; see --evidence"):
        EvidenceDirectory(tmp_path / "file" / "x").add(CLAIM, run_of("a"))


def test_nobody_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x.json"
    target.write_bytes(b"before")

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(target, b"after")
    assert target.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not an evidence file"),
        ("[]", "evidence of schema None"),
        (json.dumps({"schema": 99}), "evidence of schema 99, this harness reads 1; run the scenario again"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(BadInput, match=complaint):
        read(tmp_path / "x.json")


def test_a_reader_keeps_the_whole_file_that_it_opened(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    target.write_bytes(b"before")
    with target.open("rb") as reader:
        write_whole(target, b"after")
        assert reader.read() == b"before"
    assert target.read_bytes() == b"after"
