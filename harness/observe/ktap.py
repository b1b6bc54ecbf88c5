"""What a test program of the kernel's prints: results in KTAP, also nested, and in TAP.

TAP version 13
1..2
# Starting the second test
ok 1 first # SKIP no such device
    KTAP version 1
    1..1
    not ok 1 part
not ok 2 second

Documentation/dev-tools/ktap.rst has it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Literal

Outcome = Literal["passed", "failed", "skipped"]

# A test's line, however deep. Runners of the kernel put "# " before each line of what they run, so that what is nested
# is nested by hashes: those count as spaces do.
_RESULT = re.compile(r"(?P<indent>(?:\s|#\s)*)(?P<not>not )?ok (?P<number>\d+)\b\s*(?:-\s*)?(?P<rest>.*)")
_PLAN = re.compile(r"(?P<indent>(?:\s|#\s)*)1\.\.(?P<number>\d+)\s*(?:#\s*(?P<skip>SKIP.*))?$", re.IGNORECASE)
_DIRECTIVE = re.compile(
    r"\s*#\s*(?P<word>SKIP|XFAIL|XPASS|TODO|TIMEOUT|ERROR|exit=\d+)\b:?\s*(?P<reason>.*)$", re.IGNORECASE
)
_VERSION = re.compile(r"(?:\s|#\s)*K?TAP version \d+\s*")
_BAIL_OUT = re.compile(r"(?:\s|#\s)*Bail out!\s*(?P<reason>.*)")


@dataclass(frozen=True)
class Result:
    """One test of a program: its name, with those that it is nested in before it; how it came out, why, what it said.

    What is expected to fail, and does (XFAIL, TODO), is skipped, as is what the program skips.
    """

    name: str
    outcome: Outcome
    reason: str = ""
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Printed:
    """What a program printed: its results in their order, and what is wrong with them, a line each."""

    results: tuple[Result, ...]
    problems: tuple[str, ...]


@dataclass
class _Level:
    """What stands at one depth, below a test that has yet to come: how many were planned and came, what they told."""

    indent: int
    planned: int | None = None
    came: int = 0
    results: list[Result] = field(default_factory=list)


def read(text: str) -> Printed:
    """The results in what a program printed; none where it prints no KTAP.

    A test that has others nested in it is told of by those, unless it fails and none of them does. A plan that is not
    kept and "Bail out!" are problems.
    """
    levels: list[_Level] = []
    problems: list[str] = []
    said: list[str] = []
    for line in text.splitlines():
        if plan := _PLAN.fullmatch(line):
            nested = _close(levels, len(plan["indent"]), problems)
            level = _at(levels, len(plan["indent"]))
            level.planned = int(plan["number"])
            level.results += nested
        elif result := _RESULT.fullmatch(line):
            nested = _close(levels, len(result["indent"]), problems)
            level = _at(levels, len(result["indent"]))
            level.came += 1
            level.results += _told(_result(result, said), nested)
            said = []
        elif bail := _BAIL_OUT.fullmatch(line):
            problems.append(f"it bailed out: {bail['reason'] or 'without a reason'}")
        elif line.strip() and not _VERSION.fullmatch(line):
            said.append(line)
    results = _close(levels, -1, problems)
    return Printed(tuple(results), tuple(problems))


def _at(levels: list[_Level], indent: int) -> _Level:
    """The level of that depth; deeper ones are closed already."""
    if not levels or levels[-1].indent < indent:
        levels.append(_Level(indent))
    return levels[-1]


def _close(levels: list[_Level], indent: int, problems: list[str]) -> list[Result]:
    """Close the levels that are deeper than that; their results."""
    results: list[Result] = []
    while levels and levels[-1].indent > indent:
        level = levels.pop()
        if level.planned is not None and level.planned != level.came:
            problems.append(f"{level.planned} tests were planned, and {level.came} have a result")
        results = level.results + results
    return results


def _result(line: re.Match[str], said: list[str]) -> Result:
    directive = _DIRECTIVE.search(line["rest"])
    word = directive["word"].upper() if directive else ""
    name = line["rest"][: directive.start()] if directive else line["rest"]
    reason = directive["reason"].strip() if directive else ""
    outcome: Outcome = "failed" if line["not"] else "passed"
    if word in ("SKIP", "XFAIL", "TODO"):
        outcome = "skipped"
        reason = reason if word == "SKIP" else f"expected to fail{f': {reason}' if reason else ''}"
    elif word:
        reason = f"{word} {reason}".strip()
        outcome = "failed" if word in ("TIMEOUT", "ERROR") else outcome
    return Result(" ".join(name.split()) or line["number"], outcome, reason, tuple(said))


def _told(whole: Result, nested: list[Result]) -> list[Result]:
    """What is told of a test: what is nested in it, and itself where that does not say all."""
    below = [replace(one, name=f"{whole.name}: {one.name}") for one in nested]
    says_all = below and (whole.outcome != "failed" or any(one.outcome == "failed" for one in below))
    return below if says_all else [*below, whole]
