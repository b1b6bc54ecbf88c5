"""What everybody can use: pages in Chromium, by axe-core and the keyboard alone, on desk and phone, light and dark."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page

SIZES = {"desk": (1280, 900), "phone": (390, 844)}
# Both colours and both widths, each with each.
VIEWS = [(size, scheme) for size in SIZES for scheme in ("light", "dark")]
# Marks elements whose contrast is to be looked at: the first few of those that look the same, and all fields. What is
# the same is what contrast follows from: the colour of the text, its size and weight, and of each element around it
# what is behind it and how much shows through. What axe-core does not judge uses up no place: what is hidden, and what
# has a single character.
SAME = 3
_MARK = """(same) => {
    const seen = new Map(), around = new Map();
    const behind = (element) => {
        if (element === null) return "";
        if (!around.has(element)) {
            const style = getComputedStyle(element);
            around.set(element, [style.backgroundColor, style.backgroundImage, style.opacity, style.filter,
                                 style.mixBlendMode, style.position === "static" ? "" : element.className,
                                 style.margin.includes("-") ? element.className : "",
                                 element.matches(":disabled, [aria-disabled=true]"),
                                 behind(element.parentElement)].join("|"));
        }
        return around.get(element);
    };
    for (const element of document.body.querySelectorAll("*")) {
        const text = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE)
                                            .map((node) => node.data.trim()).join("");
        const isField = element.matches("input, select, textarea");
        if (text.length < 2 && !isField) continue;
        if (!element.checkVisibility({checkVisibilityCSS: true, checkOpacity: true})) continue;
        const style = getComputedStyle(element);
        const look = [element.localName, style.color, style.fontSize, style.fontWeight, style.textShadow,
                      style.display, behind(element)].join("|");
        const times = seen.get(look) ?? 0;
        seen.set(look, times + 1);
        if (times < same || isField) element.setAttribute("data-looked-at", "");
    }
}"""
# Of what axe-core finds, in one line each; the rest stays there.
_AXE = """async () => {
    axe.configure({rules: [{id: "color-contrast", selector: "[data-looked-at]"}]});
    const found = await axe.run({resultTypes: ["violations"]});
    return found.violations.filter((fault) => ["serious", "critical"].includes(fault.impact)).map(
        (fault) => `${fault.id}: ${fault.help}: ${fault.nodes[0].html.slice(0, 200)}`);
}"""
# Whether a focus is seen is tried with the first few of those that have the same place among elements alike.
ALIKE = 10
# What can be used with the keyboard: what of it cannot be reached by Tab, and what looks the same when it is.
_KEYBOARD = """(alike) => {
    const faults = [], tried = new Map(), kinds = new Map();
    const kind = (element) => {
        if (element === document.documentElement) return "";
        if (!kinds.has(element))
            kinds.set(element, [kind(element.parentElement), element.localName, element.className,
                                element.getAttribute("style")].join(" "));
        return kinds.get(element);
    };
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
        const times = tried.get(`${kind(element)} #${element.id}`) ?? 0;
        tried.set(`${kind(element)} #${element.id}`, times + 1);
        if (times >= alike) continue;
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

    page.evaluate(Axe().axe_script)
    # For the contrast of a text axe-core asks what lies behind each of its points: on a page of many rows that takes
    # nearly all the time, and rows that look the same have the same contrast.
    page.evaluate(_MARK, SAME)
    by_axe = page.evaluate(_AXE)
    page.keyboard.press("Tab")  # from now on a focus is one of the keyboard's
    return [*by_axe, *dict.fromkeys(page.evaluate(_KEYBOARD, ALIKE))]


def too_wide(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    over: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return max(0, over)
