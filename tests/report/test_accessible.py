"""Every kind of page that commands write can be used by everybody: axe-core, the keyboard alone, phones, the dark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.report.diagnosis.page import render as diagnosis_page
from harness.report.remedies.page import render as remedies_page
from tests.accessible import VIEWS, faults, open_page, too_wide
from tests.report.test_report_page import report
from tests.unit.test_desk_remedies import table
from tests.unit.test_diagnosis_shown import ill

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

__all__ = ["report"]


@pytest.fixture
def pages(report: Path, tmp_path: Path) -> dict[str, Path]:
    made = {"diagnosis": diagnosis_page(ill()), "remedies": remedies_page(table())}
    for name, text in made.items():
        (tmp_path / f"{name}.html").write_text(text, encoding="utf-8")
    return {"report": report} | {name: tmp_path / f"{name}.html" for name in made}


@pytest.mark.parametrize("name", ["report", "diagnosis", "remedies"])
@pytest.mark.parametrize(("size", "scheme"), VIEWS)
def test_a_page_has_no_serious_fault(
    pages: dict[str, Path], browser: Browser, name: str, size: str, scheme: str
) -> None:
    page = open_page(browser, pages[name], size, scheme)
    # What is folded has faults of its own.
    if name == "report":
        page.locator("tr.claim-row:visible th a").first.click()
        page.wait_for_selector(".part[data-ready]")
    assert (too_wide(page), faults(page)) == (0, [])
    page.context.close()
