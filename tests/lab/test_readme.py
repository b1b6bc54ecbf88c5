"""The README's example is run as it stands: a newcomer pastes it. It fits what a newcomer reads."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (only,) = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return str(only)


def run(folder: Path, example: str) -> subprocess.CompletedProcess[str]:
    (folder / "claims").mkdir()
    (folder / "claims" / "mine.toml").write_text(block("toml"))
    (folder / "test_mine.py").write_text(example)
    command = [sys.executable, "-m", "pytest", "-p", "harness.plugin", "-q", "test_mine.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 120
    assert len((block("python") + block("toml")).strip().splitlines()) <= 28


def test_the_example_works_when_pasted(tmp_path: Path) -> None:
    ran = run(tmp_path, block("python"))
    assert ran.returncode == 0, ran.stdout
    assert "1 claim: 1 refuted" in ran.stdout
    assert "2 passed" in ran.stdout


def test_the_example_fails_when_the_kernel_does_something_else(tmp_path: Path) -> None:
    ran = run(tmp_path, block("python").replace("kernel=6", "kernel=7"))
    assert ran.returncode == 1, ran.stdout
    assert "connections waiting: 6, must be 7" in ran.stdout
    assert "connections waiting: 6, must be 7" in README


def test_what_it_says_of_the_documents_is_what_they_are_called() -> None:
    from harness.claims.documents import load_documents

    documents = load_documents(ROOT / "scenarios" / "documents.toml")
    titles = [document.title_english for document in documents.values() if document.id != "kernel"]
    assert [title for title in titles if title.partition(":")[0] not in README] == []
