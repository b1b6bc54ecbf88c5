"""The site: it builds without a warning, and what is looked at in Chromium can be used by everybody (axe-core)."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.accessible import VIEWS, faults, open_page, too_wide
from tests.shared import made_once

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")
# Every page, as far as the files say: those of groups of claims are made from docs/matrix.json.
MATRIX = json.loads((ROOT / "docs" / "matrix.json").read_text())
PAGES = sorted(
    {
        *(str(file.relative_to(ROOT / "docs").with_suffix("")) for file in (ROOT / "docs").rglob("*.md")),
        *(f"matrix/claims/{row['name'].partition('.')[0]}" for row in MATRIX["claims"]),
        *("genindex", "py-modindex", "search"),
    }
    - {str(file.relative_to(ROOT / "docs").with_suffix("")) for file in (ROOT / "docs" / "changes").glob("*.md")}
)
# These are looked at on both widths in both colours, the others on a light desk and a dark phone.
CLOSELY = (
    "index",
    "matrix",
    "matrix/sysctls",
    "matrix/claims/accept-queue",
    "reference/options",
    "reference/lab",
    "claims",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once for all workers."""
    return made_once(tmp_path_factory, "site", build) / "html"


def build(place: Path) -> None:
    """Build the site.

    Pages that are made from the matrix are written beside the others: not into this clone, which may be another user's.
    """
    copy = place / "clone"
    shutil.copytree(ROOT / "docs", copy / "docs")
    for each in ROOT.iterdir():
        if each.name != "docs":
            (copy / each.name).symlink_to(each)
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-W", "--keep-going", "-b", "html"]
    command += ["-d", str(place / "trees"), "docs", str(place / "html")]
    built = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed; apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def views(site: Path, browser: Browser) -> dict[tuple[str, str], Page]:
    """A window for each width and colour: each of its own takes a second of a processor to open."""
    return {view: open_page(browser, site / "index.html", *view) for view in VIEWS}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_serious_fault_and_fits(site: Path, views: dict[tuple[str, str], Page], name: str) -> None:
    for view in VIEWS if name in CLOSELY else [VIEWS[0], VIEWS[-1]]:
        page = views[view]
        page.goto((site / f"{name}.html").as_uri())
        assert (too_wide(page), faults(page)) == (0, []), f"{view}"


def test_every_page_is_looked_at(site: Path) -> None:
    assert {str(file.relative_to(site).with_suffix("")) for file in site.rglob("*.html")} == set(PAGES)


def test_a_fault_is_found(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text(
        '<html lang="en"><head><title>x</title><style>a, button { outline: none }</style></head><body><img src="x.png">'
        '<p style="width: 2000px"><a href="#x">a link</a> <button tabindex="-1">one</button></p></body></html>'
    )
    page = open_page(browser, tmp_path / "bad.html", "desk", "light")
    found = {fault.partition(":")[0] for fault in faults(page)}
    assert found >= {"image-alt", "no visible focus", "not reached by Tab"}
    assert too_wide(page) > 700


@pytest.mark.parametrize(
    "pale",
    [
        '<p style="color: #bbb">pale</p>',
        '<p class="pale">pale</p>',
        '<div style="background: #222"><p>dark on dark</p></div>',
        '<div style="opacity: 0.3"><p>nearly not there</p></div>',
        '<label>a field <input value="some words" style="color: #ccc; background: #fff"></label>',
        '<label>a list <select style="color: #ccc; background: #fff"><option>a choice</option></select></label>',
        '<p class="pale">1</p><p class="pale">2</p><p class="pale">3</p><p class="pale">4096</p>',
        '<div hidden><p class="pale">one</p><p class="pale">two</p><p class="pale">three</p></div>'
        '<div><p class="pale">four</p></div>',
    ],
)
def test_one_pale_text_among_many_is_found(pale: str, browser: Browser, tmp_path: Path) -> None:
    head = '<html lang="en"><head><title>x</title><style>body { background: #fff; color: #000 }'
    lines = "<p>a line</p>" * 50
    page = tmp_path / "page.html"
    for text, found in ((pale, {"color-contrast"}), ("", set())):
        page.write_text(
            f"{head} .pale {{ color: #ccc }}</style></head><body><main>{lines}{text}{lines}</main></body></html>"
        )
        seen = {fault.partition(":")[0] for fault in faults(open_page(browser, page, "desk", "light"))}
        assert seen & {"color-contrast"} == found


def test_one_focus_among_many_that_is_not_seen_is_found(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    links = '<a class="same" href="#x">a link</a> ' * 50
    for style, found in (("outline: none", 1), ("", 0)):
        text = f'<body><main>{links}<a class="same" href="#x" style="{style}">the last</a></main></body>'
        page.write_text(f'<html lang="en"><head><title>x</title></head>{text}</html>')
        seen = faults(open_page(browser, page, "desk", "light"))
        assert [fault.partition(":")[0] for fault in seen].count("no visible focus") == found


def test_the_matrix_is_filtered_by_what_is_typed(site: Path, browser: Browser) -> None:
    page = open_page(browser, site / "matrix" / "sysctls.html", "desk", "light")
    page.get_by_label("Filter").fill("tcp_tw_reuse_delay")
    shown = page.locator("table.filtered tbody tr:visible")
    assert 1 <= shown.count() < 5


def test_one_field_searches_all_groups_and_hides_the_others(site: Path, browser: Browser) -> None:
    page = open_page(browser, site / "matrix.html", "phone", "light")
    page.get_by_label("Filter").fill("syn-queue")
    assert page.locator("section#syn-queue table tbody tr:visible").count() > 5
    assert page.locator("section#accept-queue").is_hidden()
    page.get_by_label("Filter").fill("no such claim")
    assert page.locator("table.matrix tbody tr:visible").count() == 0
    assert page.get_by_role("status").inner_text() == "0 rows"
    # What was typed comes with the address.
    page.goto((site / "matrix.html").as_uri() + "?filter=capacity")
    assert 1 <= page.locator("table.matrix tbody tr:visible").count() < 20


def test_a_cell_leads_to_what_was_measured(site: Path, browser: Browser) -> None:
    page = open_page(browser, site / "matrix.html", "desk", "light")
    link = page.locator("#accept-queue td.said a").first
    target = link.get_attribute("href") or ""
    file, _, anchor = target.partition("#")
    assert f'id="{anchor}"' in (site / file).read_text()


def test_the_changelog_has_what_is_not_released_yet(site: Path) -> None:
    fragments = [file for file in (ROOT / "docs" / "changes").glob("*.*.md") if "." in file.stem]
    page = re.sub(r"<[^>]+>", "", (site / "changelog.html").read_text())
    told = " ".join(html.unescape(page).split()).translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"'})
    first_words = [" ".join(re.split(r"[`*\[]", file.read_text())[0].split()) for file in fragments]
    assert [words for words in first_words if words not in told] == []


def test_the_search_knows_the_counters(site: Path) -> None:
    # The index has the stem of each word.
    assert "listenoverflow" in (site / "searchindex.js").read_text().lower()
