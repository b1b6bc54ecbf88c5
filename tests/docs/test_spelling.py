"""Spelling: common mistakes in all texts (codespell), and every word of README and docs, by a dictionary of English.

docs/words.txt has what codespell takes for mistakes and is meant, docs/spelling.txt the words of the field, which no
dictionary has: a new one is added there.
"""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.docs.test_examples import MADE, PAGES

ROOT = Path(__file__).parents[2]
PLACES = ("README.md", "docs", "harness", "scenarios", "tests", "bench", ".ci", "Makefile")
FIELD = ROOT / "docs" / "spelling.txt"
FRAGMENTS = [file for file in sorted((ROOT / "docs" / "changes").glob("*.md")) if file.name != "README.md"]
# What is no prose: blocks of code and directives, `code`, addresses, HTML.
NO_PROSE = re.compile(r"^(`{3,}|:{3,}).*?^\1|`[^`]*`|\]\([^)]*\)|<[^>]*>|https?://\S+|&\w+;", re.MULTILINE | re.DOTALL)
# Words of letters alone, of which the first may be a capital; no part of a path or of a name with a dot or a hyphen.
WORD = re.compile(r"(?<![\w.\-/_])[A-Za-z][a-z]+(?:'[a-z]+)?(?![\w/_]|\.\w)")


def spell(*places: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("codespell")), *places]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@cache
def known() -> set[str]:
    from spellchecker import SpellChecker

    return {*SpellChecker(distance=1).word_frequency.words(), *FIELD.read_text().split()}


def unknown(text: str) -> list[str]:
    """The words of a text that neither the dictionary nor the field has."""
    words = dict.fromkeys(WORD.findall(NO_PROSE.sub(" ", text)))
    return [word for word in words if not {word.lower(), word.lower().removesuffix("'s")} & known()]


def test_no_common_mistake_is_in_any_text() -> None:
    ran = spell(*PLACES)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(("text", "found"), [("The kernel rec" + "ieves.", True), ("The kernel receives it.", False)])
def test_a_mistake_is_found(tmp_path: Path, text: str, found: bool) -> None:
    (tmp_path / "text.md").write_text(text)
    assert bool(spell("text.md", cwd=tmp_path).returncode) is found


@pytest.mark.parametrize("page", [page for page in (*PAGES, *FRAGMENTS) if page.name not in MADE], ids=lambda p: p.name)
def test_every_word_is_one(page: Path) -> None:
    assert unknown(page.read_text(encoding="utf-8")) == [], "a word of the field goes into docs/spelling.txt"


def test_a_word_that_is_none_is_found() -> None:
    text = "The zzkernel's sysctls hold `no_such` words.\n```\nblokk\n```\nA listenzz waits."
    assert unknown(text) == ["zzkernel's", "listenzz"]


def test_the_words_of_the_field_are_used_and_in_order() -> None:
    words = FIELD.read_text().split()
    assert words == sorted(set(words))
