"""A real browser for the tests of pages: headless Chromium, Debian's, driven by playwright."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
# A browser of root's has no sandbox; and it is to look for nothing outside.
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@dataclass
class Opened:
    """A page in the browser, and what it said."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, one for a module; skipped where there is none.

    playwright keeps an event loop running for as long as it is there, and labs need loops of their own: it must be gone
    when the tests of another module run in this process.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium here; on Debian: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        with playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS)) as launched:
            yield launched


@pytest.fixture
def look(browser: Browser) -> Iterator[Callable[..., Opened]]:
    """`look(file, color_scheme="dark", …)`: open a file as a reader does, in a context of its own."""
    contexts = []

    def opened(file: Path, **how: Any) -> Opened:
        context = browser.new_context(viewport=how.pop("viewport", {"width": 1300, "height": 900}), **how)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        found = Opened(page)
        page.on("console", lambda message: found.said.append(message.text))
        page.on("pageerror", lambda error: found.said.append(str(error)))
        page.on("request", lambda request: found.asked.append(request.url))
        page.goto(file.as_uri())
        return found

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(autouse=True)
def no_news_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own settings reaches the browser."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
