"""Spelling: common mistakes in all texts (codespell, with words that are meant in docs/words.txt)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = ("README.md", "docs", "harness", "scenarios", "tests", "bench", ".ci", "Makefile")


def spell(*places: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("codespell")), *places]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_no_common_mistake_is_in_any_text() -> None:
    ran = spell(*PLACES)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(("text", "found"), [("The kernel rec" + "ieves.", True), ("The kernel receives it.", False)])
def test_a_mistake_is_found(tmp_path: Path, text: str, found: bool) -> None:
    (tmp_path / "text.md").write_text(text)
    assert bool(spell("text.md", cwd=tmp_path).returncode) is found
