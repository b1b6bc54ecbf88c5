"""A diagnosis as Markdown: for a ticket."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.report.diagnosis.lines import explained, headline, verdict, where

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.diagnosis.findings import Diagnosis, Finding

# What Markdown, or HTML in it, would obey; files may be anybody's.
OBEYED = re.compile(r"([\\`*_{}\[\]<>#|!&~@])")


def markdown(diagnosis: Diagnosis) -> str:
    """The whole document."""
    return "\n".join(_lines(diagnosis)) + "\n"


def _lines(diagnosis: Diagnosis) -> Iterator[str]:
    yield f"# {plain(headline(diagnosis))}"
    for number, finding in enumerate(diagnosis.findings, 1):
        yield from _finding(number, finding)
    if diagnosis.remarks:
        yield from _section("Seen, and no finding", (remark.says + where(remark) for remark in diagnosis.remarks))
    if diagnosis.missing:
        given = (
            f"no {missing.what} ({missing.why}): give {missing.give}; not or not wholly looked for: "
            f"{', '.join(missing.diagnoses)}"
            for missing in diagnosis.missing
        )
        yield from _section("What the files do not contain", given)
    if diagnosis.notices:
        yield from _section("Notes", diagnosis.notices)


def _finding(number: int, finding: Finding) -> Iterator[str]:
    yield ""
    yield f"## {number}. {plain(finding.sentence)}"
    yield ""
    follows = f", follows from {' and '.join(map(str, finding.follows_from))}" if finding.follows_from else ""
    yield f"**{finding.sure.value}**, {plain(finding.diagnosis)}, at {plain(str(finding.place))}{follows}"
    yield from _list("Because", (reason.says + where(reason) for reason in finding.reasons))
    yield from _list("Claims that explain it", map(explained, finding.explanations))
    yield from _list("What would settle it", finding.settle)
    yield from _list("What helps", finding.helps)
    useless = (
        f"{each.advice}: {each.why}"
        + (f" ({each.explained_by.claim}: {verdict(each.explained_by)})" if each.explained_by else "")
        for each in finding.useless
    )
    yield from _list("What does not help", useless)


def _section(heading: str, items: Iterator[str] | tuple[str, ...]) -> Iterator[str]:
    yield ""
    yield f"## {heading}"
    yield ""
    yield from (f"- {plain(item)}" for item in items)


def _list(heading: str, items: Iterator[str] | tuple[str, ...] | map[str]) -> Iterator[str]:
    listed = [f"- {plain(item)}" for item in items]
    if listed:
        yield from ("", f"{heading}:", "", *listed)


def plain(text: str) -> str:
    """A text in which nothing is obeyed, on one line."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return OBEYED.sub(r"\\\1", line)
