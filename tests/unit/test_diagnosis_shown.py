"""A diagnosis as people see it: lines, Markdown, a page; and nothing in a file is obeyed by any of them."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from harness.claims.files import load
from harness.diagnosis.diagnose import diagnose
from harness.incident.facts import Fact, Source
from harness.report.comparison.lines import printable
from harness.report.diagnosis.lines import lines
from harness.report.diagnosis.markdown import markdown
from harness.report.diagnosis.page import render
from tests.unit.machines import counted, listener, machine

if TYPE_CHECKING:
    from harness.diagnosis.findings import Diagnosis

ROOT = Path(__file__).parents[2]
HOSTILE = "<script>alert(1)</script>\x1b[31m`*_|"


def ill() -> Diagnosis:
    return diagnose(
        machine(
            counters=counted({}, ListenOverflows=51, ListenDrops=51),
            listeners=(listener(3000, 11, 10, 11, programs=("nginx",)),),
        ),
        load(ROOT / "scenarios" / "claims"),
    )


def hostile() -> Diagnosis:
    picture = machine(listeners=(listener(3000, 11, 10, programs=(HOSTILE,)),))
    picture = msgspec.structs.replace(picture, distribution=Fact(HOSTILE, Source(HOSTILE)), notices=(HOSTILE,))
    return diagnose(picture)


def test_lines_have_the_sentence_the_numbers_the_claims_and_what_does_not_help() -> None:
    shown = "\n".join(lines(ill()))
    assert shown.startswith(
        "Linux 6.12.1: 1 finding, causes first\n\n1. CERTAIN: The accept queue of 0.0.0.0:3000 (nginx)"
    )
    for part in (
        "because   11 connections wait where 10 are allowed",
        "ListenOverflows rises by 17 a second (51 in 3.0 s)",
        "claim     accept-queue.capacity (refuted on this kernel)",
        "does not  a higher tcp_max_syn_backlog, alone",
        "there is no such sysctl any more",
    ):
        assert part in shown


def test_a_healthy_machine_is_told_that_nothing_is_wrong_and_what_is_missing() -> None:
    shown = "\n".join(lines(diagnose(machine())))
    assert shown.startswith("Linux 6.12.1: nothing wrong here")
    assert "give ss -lntmpe" in shown
    assert "Nothing wrong here" in render(diagnose(machine()))


def test_a_terminal_obeys_nothing_of_a_file() -> None:
    assert "\x1b" not in "\n".join(printable(lines(hostile())))


def test_markdown_obeys_nothing_of_a_file() -> None:
    shown = markdown(hostile())
    assert "\x1b" not in shown
    assert re.search(r"(?<!\\)[<`|]", shown) is None
    assert r"\<script\>alert(1)" in shown


class Tags(HTMLParser):
    """The elements of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - their signature
        self.seen.append(tag)


def test_a_page_obeys_nothing_of_a_file() -> None:
    page, seen = render(hostile()), Tags()
    seen.feed(page)
    assert "script" not in seen.seen
    assert "&lt;script&gt;alert(1)" in page


def test_every_claim_and_reason_is_on_the_page() -> None:
    page = render(ill())
    for part in ("accept-queue.capacity", "refuted on this kernel", "17 a second", "finding-1", "snapshot.json"):
        assert part in page


@pytest.mark.parametrize("heavy", ["matplotlib", "scapy", "pyroute2", "pytest", "jinja2"])
def test_a_diagnosis_loads_nothing_heavy(heavy: str) -> None:
    code = f"import harness.diagnosis.diagnose, harness.report.diagnosis.lines, sys; print({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
