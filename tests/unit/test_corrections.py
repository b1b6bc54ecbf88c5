"""Every statement that some kernel refutes has what to write instead and what to do, in English and in Chinese."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from harness.claims.corrections import Correction, Words, Worth, load_corrections, missing
from harness.claims.files import load
from harness.errors import ClaimError
from harness.evidence.types import Source

ROOT = Path(__file__).parents[2]
CLAIMS = load(ROOT / "scenarios" / "claims")
CORRECTIONS = load_corrections(ROOT / "scenarios" / "corrections")

WORDS = Words("says", "right", "instead", "advice")


def test_every_refuted_claim_is_corrected() -> None:
    assert missing(CLAIMS, CORRECTIONS) == [], "write these texts in scenarios/corrections"


def test_every_correction_is_of_a_claim() -> None:
    assert sorted(CORRECTIONS.keys() - CLAIMS.keys()) == [], "these claims have another name now, or are gone"


@pytest.mark.parametrize("name", CORRECTIONS)
def test_the_languages_are_what_they_are_called(name: str) -> None:
    correction = CORRECTIONS[name]
    english = [text for text in msgspec.structs.astuple(correction.en) if text]
    chinese = [text for text in msgspec.structs.astuple(correction.zh) if text]
    assert not any(re.search(r"[\u4e00-\u9fff]", text) for text in english)
    assert all(re.search(r"[\u4e00-\u9fff]", text) for text in chinese)
    assert all(text.endswith((".", "”", "`")) for text in english)
    assert all(text.endswith(("。", "”", "`")) for text in chinese)


# That the check can fail.


def test_a_text_that_is_missing_is_named() -> None:
    name, claim = next((name, each) for name, each in CLAIMS.items() if name == "accept-queue.capacity")
    whole = Correction(Worth.NONE, WORDS, WORDS)
    assert missing({name: claim}, {name: whole}) == []
    without = msgspec.structs.replace(whole, zh=msgspec.structs.replace(WORDS, instead=""))
    assert missing({name: claim}, {name: without}) == [f"{name}: zh.instead"]
    assert len(missing({name: claim}, {})) == 6
    ours = msgspec.structs.replace(claim, sources=(Source("kernel", "h"),))
    assert missing({name: ours}, {}) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a", "Invalid|expected|Expected"),
        ('[a]\nworth = "good"', "'good'"),
        ("[a]\n", "worth"),
        ('[a]\nworth = "safe"\n[a.en]\nsay = "x"', "say"),
    ],
)
def test_corrections_that_are_malformed_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "queue.toml").write_text(text)
    with pytest.raises(ClaimError, match=rf"queue.toml: .*({said})"):
        load_corrections(tmp_path)
