"""`harness remedy`: what a measurement makes of a remedy, and the table as people and programs see it."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import msgspec
import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.desk.experiment import Effect, Outcome, Setting
from harness.desk.table import RemedyTable, Row, Worth, as_json
from harness.desk.trying import judged
from harness.errors import BadInput
from harness.evidence.json_schema import schema_text
from harness.report.comparison.lines import printable
from harness.report.remedies.lines import lines
from harness.report.remedies.markdown import markdown
from harness.report.remedies.page import render
from tests.unit.test_diagnosis_shown import HOSTILE, Tags

ROOT = Path(__file__).parents[2]
BEFORE, CONTROL = Outcome(20), Outcome(0)


def reset(number: float) -> tuple[Effect, ...]:
    return (
        Effect("connections reset", number, "clients", "clients are reset"),
        Effect("longest queue", 9, "connections"),
    )


@pytest.mark.parametrize(
    ("after", "worth", "why"),
    [
        (Outcome(0), Worth.SAFE, "the symptom is gone"),
        (Outcome(8), Worth.SAFE, "60% of the symptom is gone"),
        (Outcome(13), Worth.USELESS, "only 35% of the symptom is gone"),
        (Outcome(20), Worth.USELESS, "the symptom stays"),
        (Outcome(40), Worth.HARMFUL, "there is more of the symptom than before"),
        (Outcome(0, reset(3)), Worth.HARMFUL, "clients are reset"),
        (Outcome(0, reset(0)), Worth.SAFE, "the symptom is gone"),
    ],
)
def test_what_a_remedy_is_worth(after: Outcome, worth: Worth, why: str) -> None:
    assert judged(after, BEFORE, CONTROL) == (worth, why)


def test_where_there_is_nothing_to_mend_nothing_helps() -> None:
    assert judged(Outcome(0), Outcome(0), Outcome(0))[0] is Worth.USELESS
    assert judged(Outcome(20), Outcome(0), Outcome(0))[0] is Worth.HARMFUL


def table(word: str = "nginx") -> RemedyTable:
    rows = (
        Row("a longer queue", f"backlog {word}", Worth.SAFE, "the symptom is gone", 0, reset(0)),
        Row(word, word, Worth.HARMFUL, "clients are reset", 20, reset(3), void=True, claim="accept-queue.capacity"),
        Row("tcp_tw_recycle", "…", Worth.NO_SUCH_KNOB, "Linux 6.18 has none", void=True),
    )
    return RemedyTable(
        1, "0", "accept-queue-full", f"the queue of {word} is full", word, "6.18", "SYNs", "SYNs", 20, 0, rows, 7.0,
        effects=reset(0), scale=(Setting("limit", word, "16"),), notes=(word,), machine=word, others=(word,),
    )  # fmt: skip


def test_lines_have_the_verdict_the_numbers_and_what_one_types() -> None:
    shown = "\n".join(lines(table()))
    for part in (
        "safe: a longer queue",
        "SAFE          a longer queue\n                20 -> 0 SYNs: the symptom is gone",
        "HARMFUL       nginx (known not to help)",
        "also: connections reset: 0 -> 3 clients",
        "type: backlog nginx",
        "NO SUCH KNOB  tcp_tw_recycle",
        "limit: 16 on the desk, nginx on the machine",
    ):
        assert part in shown


def test_nothing_of_a_file_is_obeyed() -> None:
    assert "\x1b" not in "\n".join(printable(lines(table(HOSTILE))))
    shown = markdown(table(HOSTILE))
    assert "\x1b" not in shown
    assert r"\<script\>alert(1)" in shown
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 7 for line in shown.splitlines() if line.startswith("| "))
    page, seen = render(table(HOSTILE)), Tags()
    seen.feed(page)
    assert "script" not in seen.seen
    assert "&lt;script&gt;alert(1)" in page


def test_the_page_has_each_verdict_and_draws_the_symptom() -> None:
    page = render(table())
    for part in ("worth-safe", "worth-harmful", "worth-no-such-knob", "accept-queue.capacity", "<svg"):
        assert part in page


def test_a_table_travels_as_json_by_its_schema() -> None:
    jsonschema.validate(msgspec.json.decode(as_json(table())), msgspec.json.decode(schema_text(RemedyTable)))


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_tried(tmp_path: Path) -> None:
    files = Path(__file__).parent / "incident_files" / "full_queue"
    said = CliRunner().invoke(cli, ["remedy", str(files), "--page", str(tmp_path)])
    assert isinstance(said.exception, BadInput)
    assert str(said.exception) == f"{tmp_path}: cannot be written: it is a directory"
    assert said.output == ""
