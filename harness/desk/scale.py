"""From a machine's numbers to those of the desk, and from its words to words that are safe in a scenario."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.desk.experiment import Effect, Setting
from harness.errors import Forbidden, Unsupported
from harness.observe.memory import cache

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.diagnosis.findings import Finding
    from harness.diagnosis.view import View

# What a text of a file may have in a scenario: nothing that ends a docstring, nor what an interpreter would obey.
UNSAFE = re.compile(r"[^A-Za-z0-9 .,:;()\[\]/%=+*_'-]")
LONGEST = 160


def harmless(text: str, most: int = LONGEST) -> str:
    """A text without what could do anything but be read: other letters are "?", and it is one line."""
    line = " ".join(UNSAFE.sub("?", " ".join(text.split())).split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def scaled(there: int, most: int) -> int:
    """A number as it is, or the most that a desk has room for."""
    return min(there, most)


def setting(what: str, there: int | None, here: int) -> Setting:
    """A line of the scale."""
    return Setting(what, "" if there is None else f"{there:,}".replace(",", " "), str(here))


def beside_backlog(setting: str, backlog: int, there: int | None) -> str:
    """What has to be typed of somaxconn beside a longer backlog: nothing where it is as long already."""
    return "" if there is not None and there >= backlog else f" and {setting} = {backlog}"


def raised(wanted: int, there: int | None) -> int:
    """A value that raises a setting, also where it is as high as wanted already."""
    return wanted if there is None or there < wanted else 2 * there


def place(finding: Finding) -> str:
    """Where the finding is, for a reader."""
    return harmless(str(finding.place), 80)


def known(view: View, most: Mapping[str, int]) -> dict[str, int]:
    """Of these sysctls what the files have, up to the highest value that a desk can have; others stay as they are."""
    found = {name: view.sysctl(name) for name in most}
    return {name: value for name, value in found.items() if value is not None and 0 <= value <= most[name]}


def memory(objects: float, kind: str, what: str) -> tuple[Effect, ...]:
    """What so many objects of the kernel take, by the size that one has in /proc/slabinfo; nothing for who is not root.

    `kind` is the name of the cache, that of IPv4.
    """
    try:
        each = cache(kind).each
    except (Forbidden, Unsupported):
        return ()
    return (Effect(what, round(objects * each / 1024, 1), "KiB"),)
