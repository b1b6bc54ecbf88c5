"""The documents, corrected, as a part of the report's page: in a real browser, with the places to go on from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.evidence.types import Source
from harness.report.formats import render
from harness.report.table import read
from tests.report.made_evidence import checked, claim, compared, phase, run, save

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

DOCUMENTS = """
[[document]]
id = "000"
title = "队列"
title_english = "On queues"
subject = "queues"
headings = ["长度", "其他"]
headings_english = ["Length", "Other things"]
"""

REGISTER = """
[document.000]
sha256 = ""
lines = 9
sentences = {}
blank = ""
[[document.000.section]]
line = 1
heading = "长度"
says = [{ at = "2-3", statement = "Ten <b>wait</b>.", claim = "queue.limit" }]
[[document.000.section]]
line = 4
heading = "其他"
says = [{ at = "5", statement = "That is much.", reason = "an opinion" }]
"""

CORRECTIONS = """
[limit]
worth = "harmful"
[limit.en]
instead = "“Eleven wait: `ss -lnt`.”"
advice = "Count <i>them</i>."
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The texts beside the evidence of two kernels."""
    (tmp_path / "documents.toml").write_text(DOCUMENTS)
    (tmp_path / "register.toml").write_text(REGISTER)
    (tmp_path / "corrections").mkdir()
    (tmp_path / "corrections" / "queue.toml").write_text(CORRECTIONS)
    phases = (
        phase("effect", "nobody accepts", compared("waiting", 11, 10, 11)),
        phase("control", "all accepted", checked("refused", 0, 0)),
    )
    held = (phase("effect", "nobody accepts", compared("waiting", 10, 10)),)
    of_queue = claim()
    of_queue = type(of_queue)("queue", "limit", of_queue.statement, (Source("000", "长度"),), of_queue.expectations)
    runs = (run(version="6.1.2", phases=phases), run(version="5.2.9", verdict="holds", phases=held))
    save(tmp_path / "evidence", of_queue, *runs)
    return tmp_path


def page_of(place: Path) -> Path:
    page = place / "report.html"
    page.write_text(render("html", read([place / "evidence"]), documents=place / "documents.toml"), encoding="utf-8")
    return page


def chapter(page: Page) -> list[str]:
    """The terms and what is said to each, when the document has been opened."""
    page.click("#document-000 > summary")
    page.wait_for_selector("#document-000 .entry")
    return page.locator("#document-000 .told").first.inner_text().splitlines()


def test_a_document_opens_and_has_all_that_its_author_needs(place: Path, look: Callable[..., object]) -> None:
    page: Page = look(page_of(place)).page  # type: ignore[attr-defined]
    lines = [line for line in chapter(page) if line]
    told = dict(zip(lines[::2], lines[1::2], strict=False))
    assert told["Measured"] == "nobody accepts: waiting 11 (the document: 10)"
    assert told["Control"] == "all accepted: refused 0"
    assert told["Verdicts measured"] == "holds on 5.2.9; refuted on 6.1.2"
    assert told["Write instead"] == "“Eleven wait: ss -lnt.”"
    assert told["Advice harmful"] == "Count <i>them</i>."
    assert page.locator("#document-000 .says").inner_text().startswith(
        "✗ refuted since 5.4 Lines 2–3: Ten <b>wait</b>. queue.limit"
    )  # fmt: skip
    assert page.locator("#document-000 .heading > h4").all_inner_texts() == ["长度", "其他"]
    assert "Not judged, line 5: That is much. An opinion." in page.locator("#document-000 .unjudged").inner_text()


def test_a_claim_leads_to_its_evidence_and_says_what_to_write(place: Path, look: Callable[..., object]) -> None:
    page: Page = look(page_of(place)).page  # type: ignore[attr-defined]
    chapter(page)
    page.click("#document-000 .says a")
    body = page.locator("[id='claim-queue.limit'] .told")
    body.wait_for()
    assert "“Eleven wait: ss -lnt.”" in body.inner_text()
    assert page.locator("[id='claim-queue.limit'] .part[data-ready]").count() == 1


def test_a_link_opens_a_document(place: Path, look: Callable[..., object]) -> None:
    page: Page = look(page_of(place)).page  # type: ignore[attr-defined]
    page.evaluate("location.hash = '#document-000'")
    page.wait_for_selector("#document-000 .entry")


def test_a_report_of_some_claims_has_their_headings_alone(place: Path, look: Callable[..., object]) -> None:
    text = (place / "register.toml").read_text()
    (place / "register.toml").write_text(text.replace('reason = "an opinion"', 'claim = "queue.other"'))
    page: Page = look(page_of(place)).page  # type: ignore[attr-defined]
    chapter(page)
    assert page.locator("#document-000 .heading > h4").all_inner_texts() == ["长度"]


def test_without_texts_there_is_no_such_part(place: Path) -> None:
    (place / "register.toml").unlink()
    assert 'id="edition"' not in page_of(place).read_text()
