"""The corrected edition: every statement under its heading, with verdict, numbers and boundaries; and its command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from harness.claims.corrections import NOTHING, OURS, load_corrections
from harness.claims.documents import load_documents
from harness.claims.files import load
from harness.claims.register import read
from harness.cli import cli, main
from harness.errors import BadInput, ClaimError
from harness.evidence.kinds import seconds
from harness.evidence.types import Absence
from harness.evidence.values import value_of
from harness.laws.boundaries import BOUNDARIES
from harness.report.edition import make, write, write_chinese
from harness.report.edition.prose import capital, sentence
from harness.report.edition.sources import read_sources
from tests.apart import no_more_than
from tests.report import made_evidence
from tests.report.made_evidence import checked, claim, compared, phase

if TYPE_CHECKING:
    from harness.evidence.types import Run
    from harness.report.edition.model import Edition

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
title = "队列"
title_english = "On queues"
subject = "queues"
headings = ["旋钮", "空", "长度"]
headings_english = ["Knobs", "Nothing", "Queues"]
[[document]]
id = "001"
title = "More"
subject = "the same"
headings = ["Again"]
[[document]]
id = "kernel"
title = "What else"
subject = "the rest"
headings = ["Ours"]
"""

REGISTER = """
[document.000]
sha256 = ""
lines = 9
sentences = {}
blank = ""
[[document.000.section]]
line = 1
heading = "旋钮"
says = [
    { at = "2-3", statement = "There is a knob.", claim = "queue.gone" },
    { at = "4", statement = "People like it.", reason = "an opinion" },
]
[[document.000.section]]
line = 5
heading = "空"
says = [{ at = "6", nothing = "an image" }]
[[document.000.section]]
line = 7
heading = "长度"
says = [
    { at = "8.2", statement = "Ten is the most.", claim = "queue.limit" },
    { at = "9", statement = "Ten is the most.", claim = "queue.limit" },
]
[document.001]
sha256 = ""
lines = 2
sentences = {}
blank = ""
[[document.001.section]]
line = 1
heading = "Again"
says = [{ at = "2", statement = "No more than ten wait.", claim = "queue.limit" }]
"""

CORRECTIONS = """
[limit]
worth = "useless"
[limit.en]
right = "eleven wait"
instead = "“Eleven wait.”"
advice = "Count to eleven."
[limit.zh]
says = "最多十个。"
right = "实际是十一个。"
instead = "“最多十一个。”"
advice = "按十一个计算。"
"""


def run(kernel: str = "6.18.4", **parts: Any) -> Run:
    return made_evidence.run(version=kernel, **parts)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Claims, documents, and the evidence of a run."""
    for name in ("claims", "corrections", "evidence"):
        (tmp_path / name).mkdir()
    (tmp_path / "claims" / "queue.toml").write_text(CLAIMS)
    (tmp_path / "documents.toml").write_text(DOCUMENTS)
    (tmp_path / "register.toml").write_text(REGISTER)
    (tmp_path / "corrections" / "queue.toml").write_text(CORRECTIONS)
    phases = (
        phase("effect", "nobody accepts", compared("seen", 10, 10, 11), compared("waiting", 11, 10, 11)),
        phase("control", "all accepted", checked("refused", 0, 0)),
    )
    save(tmp_path, "queue.limit", run(phases=phases))
    absence = Absence("no such file", value_of("ENOENT"))
    save(tmp_path, "queue.gone", run(verdict="not-applicable", absence=absence, phases=()))
    return tmp_path


def save(place: Path, name: str, *runs: Run, under: str = "evidence") -> None:
    made_evidence.save(place / under, claim(name), *runs)


def made(place: Path, *also: str) -> Edition:
    sources = read_sources(*(place / name for name in ("claims", "documents.toml", "register.toml", "corrections")))
    return make(sources, place / "evidence", [place / each for each in also])


def edition(place: Path, *also: str) -> str:
    return write(made(place, *also))


def told(place: Path, *also: str) -> list[str]:
    """The lines of what is said of queue.limit."""
    text = edition(place, *also)
    return text[text.index('<a id="queue.limit">') :].partition("\n<a id=")[0].splitlines()


def test_statements_stand_under_their_headings_in_the_order_of_the_document(place: Path) -> None:
    lines = [line for line in edition(place).splitlines() if line.startswith(("## ", "### ", "*", '<a id="q', "✗"))]
    assert lines == [
        "## 000 · 队列",
        "*On queues.* About queues.",
        "### 旋钮",
        "*Knobs* (line 1)",
        '<a id="queue.gone"></a>– **Not applicable. Lines 2–3: There is a knob.** `queue.gone`',
        "### 空",
        "*Nothing* (line 5)",
        "### 长度",
        "*Queues* (line 7)",
        '<a id="queue.limit"></a>✗ **Refuted since 5.4. Lines 8 and 9: Ten is the most.** `queue.limit`',
        "## 001 · More",
        "*More.* About the same.",
        "### Again",
        "*Line 1*",
        "✗ **Refuted since 5.4.** Line 2: No more than ten wait. Write: “Eleven wait.” "
        "See [`queue.limit`](#queue.limit).",
        "## What no document says: What else",
    ]


def test_a_refuted_statement_has_all_that_its_author_needs(place: Path) -> None:
    assert told(place)[2:9] == [
        "- **What is true:** Eleven wait.",
        "- **Since when:** holds before 5.4; refuted since 5.4 (commit 64a146513f8f in 5.4, “[NET]: Revert”; "
        "read in the sources).",
        "- **Measured**, nobody accepts: waiting **11** (the document: 10).",
        "- **Control**, all accepted: refused **0**.",
        "- **Write instead:** “Eleven wait.”",
        "- **Advice (useless):** Count to eleven.",
        "- Said again in 001, line 2.",
    ]


def test_a_heading_without_a_claim_says_why(place: Path) -> None:
    text = edition(place)
    assert "- Line 4: People like it. *An opinion.*" in text
    assert "*Nothing* (line 5)\n\nNothing here that could be true or false.\n" in text


def test_what_does_not_apply_says_why(place: Path) -> None:
    assert "- **Why not:** No such file: ENOENT." in edition(place)


def test_a_document_has_its_numbers_and_a_list_of_what_to_correct(place: Path) -> None:
    text = edition(place)
    assert "| [000](#000) On queues | 2 | 0 | 1 | 1 | 0 |" in text
    assert "| **all** | **2** | **0** | **1** | **1** | **0** |" in text
    assert "To correct: [lines 8 and 9](#queue.limit) (useless)." in text
    assert "**Linux 6.18.4**" in text


def test_without_a_correction_the_reasons_stand_by_themselves(place: Path) -> None:
    (place / "corrections" / "queue.toml").unlink()
    assert told(place)[2:4] == [
        "- **Holds before 5.4:** ten did.",
        "- **Refuted since 5.4:** eleven do (commit 64a146513f8f in 5.4, “[NET]: Revert”; read in the sources).",
    ]


def test_a_boundary_that_was_seen_names_the_kernels(place: Path) -> None:
    """It is one of the table of boundaries, with two kernels that were run."""
    text = (place / "claims" / "queue.toml").read_text()
    for old, new in (
        ('kernels = "<5.4"', 'before = "somaxconn-default-is-4096"'),
        ('kernels = ">=5.4"', 'since = "somaxconn-default-is-4096"'),
    ):
        text = text.replace(old, new)
    text = re.sub(r'(?m)^(commit|subject|release) = ".*\n', "", text)
    (place / "claims" / "queue.toml").write_text(text)
    seen = BOUNDARIES["somaxconn-default-is-4096"].seen
    assert seen
    assert f"measured on both sides, on Linux {seen[0]} and {seen[1]})" in told(place)[3]


def test_runs_of_one_thing_are_told_as_median_and_range(place: Path) -> None:
    runs = [
        run(params=params, phases=(phase("effect", "nobody accepts", compared("time", seconds(took), 1.0, about)),))
        for params, took, about in (("ipv4", 2.004, 2.004), ("ipv6", 2.5, 2.5), ("ipv6-again", 2.013, 2.013))
    ]
    save(place, "queue.limit", *runs)
    assert "nobody accepts: time **2.01 s (median of 3 runs; 2 to 2.5 s)** (the document: 1)." in "\n".join(told(place))


def test_other_kernels_are_told_of(place: Path) -> None:
    holds = phase("effect", "a knob is there", compared("knobs", 1, 1))
    save(place, "queue.gone", run("5.10.2", verdict="holds", phases=(holds,)), under="older")
    save(place, "queue.limit", run("5.10.2", verdict="holds", phases=(holds,)), under="older")
    text = edition(place, "older")
    assert "**Linux 6.18.4**; evidence of 5.10.2 is given beside them." in text
    assert "- **Verdicts measured:** holds on 5.10.2; refuted on 6.18.4." in text
    assert "- **Measured** on Linux 5.10.2, a knob is there: knobs **1**." in text


@pytest.mark.parametrize("odd", ["5.10.2²", "5." + "9" * 5000])
def test_a_version_that_is_no_number_is_told_of_all_the_same(place: Path, odd: str) -> None:
    holds = phase("effect", "a knob is there", compared("knobs", 1, 1))
    save(place, "queue.gone", run(odd, verdict="holds", phases=(holds,)), under="older")
    save(place, "queue.limit", run(odd, verdict="holds", phases=(holds,)), under="older")
    assert f"**Linux 6.18.4**; evidence of {odd} is given beside them." in edition(place, "older")


def test_many_kernels_are_told_by_the_first_and_the_last(place: Path) -> None:
    holds = phase("effect", "a knob is there", compared("knobs", 1, 1))
    older = ("4.19.1", "5.10.2", "6.1.9", "6.12.3")
    save(place, "queue.gone", *(run(version, verdict="holds", phases=(holds,)) for version in older), under="older")
    save(place, "queue.limit", *(run(version, verdict="refuted", phases=(holds,)) for version in older), under="older")
    text = edition(place, "older")
    assert "- **Verdicts measured:** holds on 4 kernels, 4.19.1 to 6.12.3; not applicable on 6.18.4." in text
    assert "- **Verdicts measured:** refuted on all 5 kernels, 4.19.1 to 6.18.4." in text
    among = [*older[:2], "6.20.1", "6.20.2"]
    save(place, "queue.gone", *(run(version, verdict="holds", phases=(holds,)) for version in among), under="among")
    assert "holds on 4.19.1, 5.10.2, 6.20.1, 6.20.2; not applicable on 6.18.4." in edition(place, "among")


def test_the_chinese_edition_has_the_corrections_alone(place: Path) -> None:
    text = write_chinese(made(place))
    assert '<a id="queue.limit"></a>**第 8、9 行：最多十个。** 5.4 起不成立。`queue.limit`' in text
    for line in (
        "- **实际情况：** 实际是十一个。",
        "- 5.4 之前：成立。",
        "- 5.4 起：不成立（提交 64a146513f8f，5.4，“[NET]: Revert”；据源码）。",
        "- **应改为：** “最多十一个。”",
        "- **建议（无用）：** 按十一个计算。",
        "- 另见：001 第 2 行。",
    ):
        assert f"{line}\n" in text
    assert "- 第 2 行：最多十个。应改为：“最多十一个。”（详见 [`queue.limit`](#queue.limit)）" in text
    assert "queue.gone" not in text
    assert "旋钮" not in text


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
    made_of = "".join(series.format(kernels=k, verdict=v, because=b, release=r) for k, v, b, r in ranges)
    text = (place / "claims" / "queue.toml").read_text()
    head, _, tail = text.partition('[[claim.expect]]\nkernels = ">=5.4"')
    (place / "claims" / "queue.toml").write_text(head + made_of + tail[tail.index("\n[[claim]]") :])
    (place / "corrections" / "queue.toml").unlink()
    lines = [line for line in edition(place).splitlines() if "64a14" in line]
    assert lines == [
        "- **Refuted from 5.4 to 5.10.1, from 5.11 to 6.0:** eleven do (commit 64a146513f8f in 5.4, "
        "“[NET]: Revert”; read in the sources).",
        "- **Holds in 5.10 since 5.10.2, since 6.1:** ten do again (commit 64a146513f8f in 5.10.2, 6.1, "
        "“[NET]: Revert”; read in the sources).",
    ]


def test_what_was_not_settled_says_so(place: Path) -> None:
    save(place, "queue.limit", run(verdict=None, outcome="unsettled", reason="needs a kernel of its own", phases=()))
    text = edition(place)
    assert "? **Not settled. Lines 8 and 9: Ten is the most.**" in text
    assert "- **Not settled here:** Needs a kernel of its own." in text


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
    wanted = {
        "claims": "claims",
        "documents": "documents.toml",
        "register": "register.toml",
        "corrections": "corrections",
        "evidence": "evidence",
    }
    return ["claims", *(f"--{name}={place / file}" for name, file in wanted.items()), *more]


def test_the_command_writes_the_file_whole(place: Path) -> None:
    output = place / "docs" / "claims.md"
    result = CliRunner().invoke(cli, options(place, "-o", str(output)))
    assert (result.exit_code, result.output) == (0, "")
    assert output.read_text() == edition(place) == CliRunner().invoke(cli, options(place)).output
    assert list(output.parent.iterdir()) == [output]


def test_one_command_writes_both_languages(place: Path) -> None:
    english, chinese = place / "claims.md", place / "claims.zh.md"
    result = CliRunner().invoke(cli, options(place, "-o", str(english), "--chinese", str(chinese)))
    assert result.exit_code == 0
    assert (english.read_text(), chinese.read_text()) == (edition(place), write_chinese(made(place)))


def test_a_file_that_cannot_be_written_is_one_line(place: Path) -> None:
    result = CliRunner().invoke(cli, options(place, "-o", str(place / "documents.toml" / "claims.md")))
    assert isinstance(result.exception, BadInput)
    assert re.fullmatch(r".*claims.md: cannot be written: .*documents.toml is no directory", str(result.exception))


@pytest.mark.parametrize(("option", "other"), [("-o", "--chinese"), ("--chinese", "-o")])
def test_where_one_file_cannot_be_written_neither_is(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str, other: str
) -> None:
    directory = place / "directory"
    directory.mkdir()
    words = options(place, option, str(directory), other, str(place / "claims.md"))
    monkeypatch.setattr("sys.argv", ["harness", *words])
    before = sorted(place.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"harness: {directory}: cannot be written: it is a directory\n"
    assert sorted(place.rglob("*")) == before


def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It left claims.md.part, and ended with 1."""
    output = place / "claims.md"
    output.write_text("before")
    monkeypatch.setattr("sys.argv", ["harness", *options(place, "-o", str(output))])
    before = sorted(place.rglob("*"))
    with no_more_than(100), pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"harness: {output}: cannot be written: File too large\n"
    assert (sorted(place.rglob("*")), output.read_text()) == (before, "before")


def test_bad_input_is_one_line_and_a_usage_exit_code(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["harness", *options(place, "--evidence", str(place / "none"))])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert re.fullmatch(
        r"harness: .*none: no such directory; name one that pytest's --tcp-evidence wrote\n", capsys.readouterr().err
    )


def test_the_edition_in_docs_has_every_heading_and_every_line() -> None:
    english = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    for document in load_documents(ROOT / "scenarios" / "documents.toml").values():
        for heading, rendering in zip(document.headings, document.in_english, strict=True):
            assert document.id == OURS or (heading in english and rendering in english), heading
    for name, _, entry in read(ROOT / "scenarios" / "register.toml").entries():
        assert not entry.statement or sentence(entry.statement) in english, (name, entry.at)


def test_the_editions_in_docs_are_those_of_the_claims() -> None:
    """Statements, reasons and corrections; the numbers are those of the run that they were made from."""
    english, chinese = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("claims.md", "claims.zh.md"))
    corrections = load_corrections(ROOT / "scenarios" / "corrections")
    assert not re.search(r"\{\"|\bKnobs\(|b\'\'|\*\*\*\*|told above|\[\d+, \d", english)
    for each in load(ROOT / "scenarios" / "claims").values():
        correction = corrections.get(each.name, NOTHING)
        assert f'<a id="{each.name}"></a>' in english
        reasons = [expectation.because for expectation in each.expectations]
        detail = correction.en.right or (reasons[0] if len(reasons) == 1 else "")
        wanted = [capital(detail) if detail else "", correction.en.instead]
        assert all(text in english for text in wanted), each.name
        assert all(text in chinese for text in (correction.zh.right, correction.zh.instead)), each.name
