"""What everybody can use: pages in Chromium, by axe-core and the keyboard alone, on desk and phone, light and dark."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page

SIZES = {"desk": (1280, 900), "phone": (390, 844)}
# Both colours and both widths, each with each.
VIEWS = [(size, scheme) for size in SIZES for scheme in ("light", "dark")]
HARMS = ("serious", "critical")
# What can be used with the keyboard: what of it cannot be reached by Tab, and what looks the same when it is.
_KEYBOARD = """() => {
    const faults = [];
    const name = (element) => element.outerHTML.slice(0, 120);
    const looks = (element) => {
        const style = getComputedStyle(element);
        return [style.outlineStyle, style.outlineWidth, style.outlineColor, style.boxShadow, style.backgroundColor,
                style.borderColor, style.textDecorationLine].join(" ");
    };
    const before = document.activeElement;
    for (const element of document.querySelectorAll(
        "a[href], button, input, select, textarea, summary, [tabindex='0'], [role=button], [onclick]")) {
        if (!element.checkVisibility({checkVisibilityCSS: true, checkOpacity: true}) || element.disabled) continue;
        if (element.type === "hidden" || element.closest("[inert], [aria-hidden=true]")) continue;
        // One of a group is in the order of Tab, and arrows lead to the others.
        if (element.tabIndex < 0 && element.closest("[role=grid], [role=tablist], #matrix")) continue;
        if (element.tabIndex < 0) { faults.push("not reached by Tab: " + name(element)); continue; }
        element.blur();
        const unfocused = looks(element);
        element.focus({preventScroll: true, focusVisible: true});
        if (document.activeElement !== element) { faults.push("takes no focus: " + name(element)); continue; }
        if (looks(element) === unfocused) faults.push("no visible focus: " + name(element));
    }
    if (before && before.focus) before.focus();
    return faults;
}"""


def open_page(browser: Browser, file: Path, size: str, scheme: str) -> Page:
    """A file as a reader opens it, in a context of its own."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(file.as_uri())
    return page


def faults(page: Page) -> list[str]:
    """What axe-core calls serious or critical, and what the keyboard does not reach."""
    from axe_playwright_python.sync_playwright import Axe

    # Without the nodes of what passes: on a long page they take most of the time.
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    by_axe = [
        f"{fault['id']}: {fault['help']}: {fault['nodes'][0]['html'][:200]}"
        for fault in found
        if fault["impact"] in HARMS
    ]
    page.keyboard.press("Tab")  # from now on a focus is one of the keyboard's
    return by_axe + list(dict.fromkeys(page.evaluate(_KEYBOARD)))


def too_wide(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    over: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return max(0, over)
