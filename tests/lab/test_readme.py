"""The README's example is run as it stands: a newcomer pastes it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    evidence = str(folder / "evidence")
    command = [sys.executable, "-m", "pytest", "-p", "harness.plugin", "-q", str(folder), "--evidence", evidence]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_example_works_when_pasted(tmp_path: Path) -> None:
    (example,) = blocks("python")
    (tmp_path / "test_mine.py").write_text(example)
    ran = run(tmp_path)
    assert ran.returncode == 0, ran.stdout
    assert "2 passed" in ran.stdout
    assert 10 <= len(example.strip().splitlines()) <= 15


def test_the_example_fails_when_the_kernel_does_something_else(tmp_path: Path) -> None:
    (example,) = blocks("python")
    (tmp_path / "test_mine.py").write_text(example.replace("== 6", "== 5"))
    ran = run(tmp_path)
    assert ran.returncode == 1, ran.stdout
    assert "2 failed" in ran.stdout


def test_the_claim_file_is_one(tmp_path: Path) -> None:
    from harness.claims.files import load

    (claims,) = blocks("toml")
    (tmp_path / "mine.toml").write_text(claims)
    assert list(load(tmp_path)) == ["mine.default-backlog"]
