"""Links: each that stays inside leads somewhere, in README, between the files of docs, and on the built site.

Those to other places take a network: `make docs-links`.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.test_examples import PAGES
from tests.docs.test_site import site

__all__ = ["site"]

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
BLOCK = re.compile(r"^(`{3,}).*?^\1|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def places(page: Path) -> set[str]:
    """The headings of a page as links name them, and what HTML in it names."""
    text = page.read_text(encoding="utf-8")
    headings = (re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text))
    return {*headings, *re.findall(r'<a id="([^"]+)"', text)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(page: Path) -> None:
    dead = []
    for link in LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = page.parent / unquote(parts.path) if parts.path else page
        is_dead = not target.exists()
        if parts.fragment and target.suffix == ".md" and not is_dead:
            is_dead = unquote(parts.fragment) not in places(target)
        if is_dead:
            dead.append(link)
    assert dead == []


class Page(HTMLParser):
    """What a page of the site has: places, and links."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note both."""
        for name, value in attrs:
            if value and name == "id":
                self.places.add(value)
            elif value and (name, tag) in (("href", "a"), ("src", "img"), ("href", "link"), ("src", "script")):
                self.links.add(value)


def test_links_of_the_site_lead_somewhere(site: Path) -> None:
    pages = {file: Page(file) for file in site.rglob("*.html")}
    dead = []
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            # The theme's own switch of what an anchor shows: "#" alone is the top of the page.
            there = target.exists() and (
                not parts.fragment or target not in pages or unquote(parts.fragment) in pages[target].places
            )
            if not there:
                dead.append(f"{file.relative_to(site)}: {link}")
    assert sorted(dead) == []
