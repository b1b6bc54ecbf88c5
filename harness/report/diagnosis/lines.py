"""A diagnosis as lines for a terminal."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

from harness import screen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.diagnosis.findings import Diagnosis, Explanation, Finding, Remark

WIDTH = 116
NOTHING = "nothing wrong here, as far as the files show"


def lines(diagnosis: Diagnosis) -> Iterator[str]:
    """The findings in their order, then what was seen besides, then what the files do not contain."""
    yield headline(diagnosis)
    for number, finding in enumerate(diagnosis.findings, 1):
        yield ""
        yield from _finding(number, finding)
    if diagnosis.remarks:
        yield ""
        yield "Seen, and no finding:"
        for remark in diagnosis.remarks:
            yield from _item(remark.says + where(remark), "  - ")
    if diagnosis.missing:
        yield ""
        yield "What the files do not contain:"
        for missing in diagnosis.missing:
            yield from _item(f"no {missing.what} ({missing.why}): give {missing.give}", "  - ")
            yield from _item(f"not or not wholly looked for: {', '.join(missing.diagnoses)}", "      ")
    for notice in diagnosis.notices:
        yield from _item(notice, "note: ")


def in_colour(line: str) -> str:
    """The same line: how sure a finding is stands out, and that there is none."""
    if line.endswith(NOTHING):
        return screen.coloured(line, screen.GOOD)
    found = re.match(r"\d+\. [A-Z ]+: ", line)
    return line if found is None else screen.coloured(found[0], screen.BAD) + line[found.end() :]


def headline(diagnosis: Diagnosis) -> str:
    """How much is wrong, and with which machine."""
    of = " ".join(filter(None, (diagnosis.kernel and f"Linux {diagnosis.kernel}", diagnosis.distribution)))
    machine = of or "a machine whose kernel no file names"
    if not diagnosis.findings:
        return f"{machine}: {NOTHING}"
    number = len(diagnosis.findings)
    elsewhere = sum(finding.place.namespace != "" for finding in diagnosis.findings)
    of_others = f", {elsewhere} in other network namespaces" if elsewhere else ""
    return f"{machine}: {number} finding{'s' * (number != 1)}{of_others}, causes first"


def _finding(number: int, finding: Finding) -> Iterator[str]:
    yield from _item(f"{finding.sentence}.", f"{number}. {finding.sure.value.upper()}: ")
    yield f"   {finding.diagnosis}, at {finding.place}"
    if finding.follows_from:
        yield f"   follows from {' and '.join(map(str, finding.follows_from))}"
    for reason in finding.reasons:
        yield from _item(reason.says + where(reason), "   because   ")
    for explanation in finding.explanations:
        yield from _item(explained(explanation), "   claim     ")
    for line in finding.settle:
        yield from _item(line, "   settle    ")
    for line in finding.helps:
        yield from _item(line, "   helps     ")
    for useless in finding.useless:
        by = f" [{useless.explained_by.claim}: {verdict(useless.explained_by)}]" if useless.explained_by else ""
        yield from _item(f"{useless.advice}: {useless.why}{by}", "   does not  ")


def explained(explanation: Explanation) -> str:
    """A claim in a line: its name, its verdict on this kernel, what it says, and why."""
    said = f"{explanation.claim} ({verdict(explanation)})"
    if explanation.statement:
        said += f": {explanation.statement}"
    if explanation.because:
        said += f" Here: {explanation.because}."
    return f"{said} ({explanation.hedge})" if explanation.hedge else said


def verdict(explanation: Explanation) -> str:
    """What this machine's kernel makes of a claim, in words."""
    if explanation.verdict is not None:
        return f"{explanation.verdict.words} on this kernel"
    return "verdict not known: " + ("no file names the kernel" if explanation.statement else "no claim file at hand")


def where(said: Remark | object) -> str:
    """The files of a reason or a remark, in brackets; of many the first."""
    files: tuple[str, ...] = getattr(said, "files", ())
    if not files:
        return ""
    more = f" and {len(files) - 2} more" if len(files) > 2 else ""
    return f" [{', '.join(files[:2])}{more}]"


def _item(text: str, start: str) -> Iterator[str]:
    yield from textwrap.wrap(
        text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip
