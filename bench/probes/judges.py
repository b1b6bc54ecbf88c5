"""What is wrong with how something ended: no more, and no less, than the page Reliability promises."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

    from bench.probes.sandbox import Ended

# Columns of the table.
KINDS = ("traceback", "hang", "outside", "left", "lost", "status")
TRACEBACK = re.compile(
    r"Traceback \(most recent call last\)|INTERNALERROR|Exception ignored in|^Fatal Python error", re.M
)


class Wrong(NamedTuple):
    """A defect of one of KINDS, and what was seen of it."""

    kind: str
    seen: str


def judged(ended: Ended, statuses: Collection[int]) -> list[Wrong]:
    """What is wrong with how a program ended; `statuses` are those that are documented."""
    wrong = []
    if found := TRACEBACK.search(ended.said):
        wrong.append(Wrong("traceback", ended.said[max(0, found.start() - 200) :][:2500]))
    if ended.status is None:
        wrong.append(Wrong("hang", ended.said[-500:]))
    elif ended.status not in statuses:
        wrong.append(Wrong("status", f"{ended.status}: {ended.said[-500:]}"))
    if ended.outside:
        wrong.append(Wrong("outside", ", ".join(ended.outside[:5])))
    if ended.left:
        wrong.append(Wrong("left", ", ".join(ended.left[:5])))
    return wrong
