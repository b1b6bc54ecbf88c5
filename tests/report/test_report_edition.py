"""The corrected edition: every statement under its heading, with verdict, numbers and boundaries; and its command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from harness.claims.documents import load_documents
from harness.claims.files import load
from harness.cli import cli, main
from harness.errors import BadInput, ClaimError
from harness.evidence.types import Absence
from harness.evidence.values import value_of
from harness.report.edition import write
from tests.report import made_evidence
from tests.report.made_evidence import checked, claim, compared, phase

if TYPE_CHECKING:
    from harness.evidence.types import Run

ROOT = Path(__file__).parents[2]

CLAIMS = """
group = "queue"

[[claim]]
id = "limit"
statement = "Ten may wait."
source = [{ document = "000", heading = "Queues" }, { document = "001", heading = "Again" }]
[[claim.expect]]
kernels = "<5.4"
verdict = "holds"
because = "ten did"
[[claim.expect]]
kernels = ">=5.4"
verdict = "refuted"
because = "eleven do"
commit = "64a146513f8f"
subject = "[NET]: Revert"
release = "5.4"

[[claim]]
id = "gone"
statement = "A knob exists."
source = [{ document = "000", heading = "Knobs" }]
[[claim.expect]]
kernels = ">=3.0"
verdict = "not-applicable"
because = "it does not"
"""

DOCUMENTS = """
[[document]]
id = "000"
title = "Of queues"
subject = "queues"
headings = ["Knobs", "Nothing", "Queues"]
[[document]]
id = "001"
title = "More"
subject = "the same"
headings = ["Again"]
"""


def run(kernel: str = "6.18.4", **parts: Any) -> Run:
    return made_evidence.run(version=kernel, **parts)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Claims, documents, and the evidence of a run."""
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "queue.toml").write_text(CLAIMS)
    (tmp_path / "documents.toml").write_text(DOCUMENTS)
    (tmp_path / "evidence").mkdir()
    phases = (
        phase("effect", "nobody accepts", compared("seen", 10, 10, 11), compared("waiting", 11, 10, 11)),
        phase("control", "all accepted", checked("refused", 0, 0)),
    )
    save(tmp_path, "queue.limit", run(phases=phases))
    absence = Absence("no such file", value_of("ENOENT"))
    save(tmp_path, "queue.gone", run(verdict="not-applicable", absence=absence, phases=()))
    return tmp_path


def save(place: Path, name: str, *runs: Run) -> None:
    made_evidence.save(place / "evidence", claim(name), *runs)


def edition(place: Path) -> str:
    return write(load(place / "claims"), load_documents(place / "documents.toml"), place / "evidence")


def test_statements_stand_under_their_headings_in_the_order_of_the_document(place: Path) -> None:
    lines = [line for line in edition(place).splitlines() if line.startswith(("## ", "### ", "<a", "**"))]
    assert lines == [
        "## 000 · Of queues",
        "### Knobs",
        '<a id="queue.gone"></a>**Not applicable:** A knob exists. (`queue.gone`)',
        "### Queues",
        '<a id="queue.limit"></a>**Refuted:** Ten may wait. (`queue.limit`)',
        "## 001 · More",
        "### Again",
        "**Refuted:** Ten may wait. ([`queue.limit`](#queue.limit), told above.)",
    ]


def test_a_statement_has_its_numbers_and_since_when(place: Path) -> None:
    text = edition(place)
    assert "- Measured, nobody accepts: waiting **11** (the document: 10)." in text
    assert "seen" not in text
    assert "refused" not in text
    assert "- Holds before 5.4: ten did." in text
    assert "- Refuted since 5.4: eleven do (commit 64a146513f8f in 5.4, “[NET]: Revert”)." in text
    assert "- Shown: no such file: ENOENT." in text
    assert "**Linux 6.18.4**" in text
    assert "| queue | 0 | 1 | 1 | 0 |" in text


def test_stable_series_with_the_same_account_are_told_once(place: Path) -> None:
    series = """[[claim.expect]]
kernels = "{kernels}"
verdict = "{verdict}"
because = "{because}"
commit = "64a146513f8f"
subject = "[NET]: Revert"
release = "{release}"
"""
    ranges = [
        (">=5.4,<5.10.2", "refuted", "eleven do", "5.4"),
        (">=5.10.2,<5.11", "holds", "ten do again", "5.10.2"),
        (">=5.11,<6.1", "refuted", "eleven do", "5.4"),
        (">=6.1", "holds", "ten do again", "6.1"),
    ]
    made = "".join(series.format(kernels=k, verdict=v, because=b, release=r) for k, v, b, r in ranges)
    text = (place / "claims" / "queue.toml").read_text()
    head, _, tail = text.partition('[[claim.expect]]\nkernels = ">=5.4"')
    (place / "claims" / "queue.toml").write_text(head + made + tail[tail.index("\n[[claim]]") :])
    lines = [line for line in edition(place).splitlines() if "64a14" in line]
    assert lines == [
        "- Refuted from 5.4 to before 5.10.2, from 5.11 to before 6.1: eleven do (commit 64a146513f8f in 5.4, "
        "“[NET]: Revert”).",
        "- Holds from 5.10.2 to before 5.11, since 6.1: ten do again (commit 64a146513f8f in 5.10.2, 6.1, "
        "“[NET]: Revert”).",
    ]


def test_what_was_not_settled_says_so(place: Path) -> None:
    save(place, "queue.limit", run(verdict=None, outcome="unsettled", reason="needs a kernel of its own"))
    text = edition(place)
    assert "**Not settled:** Ten may wait." in text
    assert "- Not settled here: needs a kernel of its own." in text


def test_evidence_of_two_kernels_is_refused(place: Path) -> None:
    save(place, "queue.gone", run("5.10.2"))
    with pytest.raises(BadInput, match=r"evidence of several kernels \(5.10.2, 6.18.4\); an edition is of one"):
        edition(place)


def test_no_evidence_is_refused(place: Path) -> None:
    for file in (place / "evidence").iterdir():
        file.unlink()
    with pytest.raises(BadInput, match=r"no evidence of a settled claim here; run `pytest scenarios/` first"):
        edition(place)


def test_a_file_that_is_no_evidence_is_refused(place: Path) -> None:
    (place / "evidence" / "queue.gone.json").write_text("{")
    with pytest.raises(BadInput, match=r"evidence: queue.gone.json: left out: not an evidence file"):
        edition(place)


@pytest.mark.parametrize("text", ["", "[[document]]\nid = '000'\n", "[document", "document = 3\n"])
def test_documents_that_are_malformed_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "documents.toml").write_text(text)
    with pytest.raises(ClaimError, match=r"documents.toml: (every|not a TOML file)"):
        load_documents(tmp_path / "documents.toml")


def options(place: Path, *more: str) -> list[str]:
    wanted = {"claims": "claims", "documents": "documents.toml", "evidence": "evidence"}
    return ["claims", *(f"--{name}={place / file}" for name, file in wanted.items()), *more]


def test_the_command_writes_the_file_whole(place: Path) -> None:
    output = place / "docs" / "claims.md"
    result = CliRunner().invoke(cli, options(place, "-o", str(output)))
    assert (result.exit_code, result.output) == (0, "")
    assert output.read_text() == edition(place) == CliRunner().invoke(cli, options(place)).output
    assert list(output.parent.iterdir()) == [output]


def test_a_file_that_cannot_be_written_is_one_line(place: Path) -> None:
    result = CliRunner().invoke(cli, options(place, "-o", str(place / "documents.toml" / "claims.md")))
    assert isinstance(result.exception, BadInput)
    assert re.fullmatch(r".*claims.md: cannot be written: .*documents.toml is no directory", str(result.exception))


def test_bad_input_is_one_line_and_a_usage_exit_code(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["harness", *options(place, "--evidence", str(place / "none"))])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert re.fullmatch(
        r"harness: .*none: no such directory; name one that pytest's --evidence wrote\n", capsys.readouterr().err
    )


def test_the_edition_in_docs_is_that_of_the_claims() -> None:
    """Verdicts and reasons; the numbers are those of the run that it was made from."""
    text = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    for each in load(ROOT / "scenarios" / "claims").values():
        assert f"{each.statement} (`{each.name}`)" in text
        for expectation in each.expectations:
            assert expectation.because in text, each.name
