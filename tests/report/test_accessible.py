"""Every kind of page that commands write can be used by everybody: axe-core, the keyboard alone, phones, the dark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.cli import main
from harness.report.diagnosis.page import render as diagnosis_page
from harness.report.remedies.page import render as remedies_page
from tests.accessible import VIEWS, faults, open_page, too_wide
from tests.report.made_evidence import claim, compared, phases, run, save
from tests.report.test_history import place as many_runs
from tests.report.test_report_edition_page import page_of
from tests.report.test_report_edition_page import place as documents
from tests.report.test_report_page import report
from tests.unit.test_desk_remedies import table
from tests.unit.test_diagnosis_shown import ill

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Browser, Page

__all__ = ["documents", "many_runs", "report"]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`written(*words)`: the page that the command makes of what is in the test's directory."""

    def write(*words: str) -> Path:
        monkeypatch.chdir(tmp_path)
        page = tmp_path / "page.html"
        monkeypatch.setattr("sys.argv", ["harness", *words, "--page", str(page)])
        with pytest.raises(SystemExit):
            main()
        return page

    return write


@pytest.fixture
def comparison(tmp_path: Path, written: Callable[..., Path]) -> Path:
    """Of two runs: a verdict, a number and a test that only the first has changed."""
    for name, measured, verdict in (("before", 11, "refuted"), ("after", 10, "holds")):
        found = phases(compared("waiting", measured, 10, measured))
        only = (run(params="ipv6"),) if name == "before" else ()
        save(tmp_path / name, claim(), run(verdict=verdict, phases=found), *only)
    return written("compare", "before", "after")


@pytest.fixture
def history(many_runs: Path, written: Callable[..., Path]) -> Path:
    """Of eight runs, with flakes, a number and a duration that moved."""
    return written("history", "runs")


@pytest.fixture
def edition(documents: Path) -> Path:
    """A report with a document, corrected."""
    return page_of(documents)


@pytest.fixture
def diagnosis(tmp_path: Path) -> Path:
    """Of a machine that has everything."""
    page = tmp_path / "diagnosis.html"
    page.write_text(diagnosis_page(ill()), encoding="utf-8")
    return page


@pytest.fixture
def remedies(tmp_path: Path) -> Path:
    """Of what was tried on a kernel."""
    page = tmp_path / "remedies.html"
    page.write_text(remedies_page(table()), encoding="utf-8")
    return page


def unfold(page: Page, name: str) -> None:
    """Open what is folded: it has faults of its own."""
    if name == "report":
        page.locator("tr.claim-row:visible th a").first.click()
        page.wait_for_selector(".part[data-ready]")
    elif name == "edition":
        page.click("#document-000 > summary")
        page.wait_for_selector("#document-000 .entry")
    else:
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")


@pytest.mark.parametrize("name", ["report", "diagnosis", "remedies", "comparison", "history", "edition"])
@pytest.mark.parametrize(("size", "scheme"), VIEWS)
def test_a_page_has_no_serious_fault(
    request: pytest.FixtureRequest, browser: Browser, name: str, size: str, scheme: str
) -> None:
    page = open_page(browser, request.getfixturevalue(name), size, scheme)
    unfold(page, name)
    assert (too_wide(page), faults(page)) == (0, [])
    page.context.close()
