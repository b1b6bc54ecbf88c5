"""Bytes that a fuzzer finds: no parser of what others hand over ends with anything but its answer, or a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fuzz import bounded, fuzzer
from tests.fuzz.targets import TARGETS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_meant_and_what_was_found_before(name: str) -> None:
    assert fuzzer.once(name) > 0


@pytest.mark.skipif(bool(bounded.lacking()), reason=bounded.lacking())
@pytest.mark.parametrize("name", TARGETS)
def test_what_a_fuzzer_finds(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "KEPT", tmp_path)
    ended = bounded.fuzz(name, bounded.seconds() / 2 / len(TARGETS))
    found = [file.read_bytes()[:500] for file in (tmp_path / "crashes").iterdir()]
    assert (ended.returncode, found) == (0, []), ended.said
