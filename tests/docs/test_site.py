"""The site: it builds without a warning, and what is looked at in Chromium can be used by everybody (axe-core)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")
SIZES = {"desk": (1280, 900), "phone": (390, 844)}
PAGES = (
    "index",
    "matrix",
    "matrix/sysctls",
    "matrix/claims/accept-queue",
    "reference/options",
    "reference/lab",
    "claims",
)
HARMS = ("serious", "critical")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-W", "--keep-going", "-b", "html"]
    command += ["-d", str(place / "trees"), "docs", str(place / "html")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return place / "html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed; apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def open_page(browser: Browser, file: Path, size: str, scheme: str) -> Page:
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(file.as_uri())
    return page


def faults(page: Page) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {fault['help']}: {fault['nodes'][0]['html'][:200]}"
        for fault in found
        if fault["impact"] in HARMS
    ]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("size", "scheme"), [("desk", "light"), ("phone", "dark")])
def test_a_page_has_no_serious_fault_and_fits(site: Path, browser: Browser, name: str, size: str, scheme: str) -> None:
    page = open_page(browser, site / f"{name}.html", size, scheme)
    assert faults(page) == []
    over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert over <= 0, "the page is wider than the window"


def test_a_fault_is_found(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text('<html><body><img src="x.png"><button></button></body></html>')
    assert [fault.partition(":")[0] for fault in faults(open_page(browser, tmp_path / "bad.html", "desk", "light"))]


def test_the_matrix_is_filtered_by_what_is_typed(site: Path, browser: Browser) -> None:
    page = open_page(browser, site / "matrix" / "sysctls.html", "desk", "light")
    page.get_by_label("Filter").fill("tcp_tw_reuse_delay")
    shown = page.locator("table.filtered tbody tr:visible")
    assert 1 <= shown.count() < 5


def test_a_cell_leads_to_what_was_measured(site: Path, browser: Browser) -> None:
    page = open_page(browser, site / "matrix.html", "desk", "light")
    link = page.locator("#accept-queue td.said a").first
    target = link.get_attribute("href") or ""
    file, _, anchor = target.partition("#")
    assert f'id="{anchor}"' in (site / file).read_text()


def test_the_search_knows_the_counters(site: Path) -> None:
    # The index has the stem of each word.
    assert "listenoverflow" in (site / "searchindex.js").read_text().lower()
