"""States of machines that are made side by side: how many at once, and what becomes of the others when one fails."""

from __future__ import annotations

import os
import sys
from itertools import accumulate
from typing import TYPE_CHECKING

import execnet
import pytest

from harness.kernels import gateway, interpreters
from harness.kernels.project import Project
from harness.plugin import states

if TYPE_CHECKING:
    from pathlib import Path

# Says when it begins and when it ends; before that it sees so many begin.
TELLS = """
import sys
open(sys.argv[1], "a").write("+")
while open(sys.argv[1]).read().count("+") < int(sys.argv[2]):
    pass
open(sys.argv[1], "a").write("-")
"""
# Begins, and ends when somebody writes into the FIFO.
WAITS = "import sys; open(sys.argv[1]).read()"
FAILS = "raise SystemExit(2)"


def program(text: str, *words: object) -> list[str]:
    return [sys.executable, "-S", "-c", text, *map(str, words)]


def spec(kernel: str, *, root: Path) -> execnet.XSpec:
    return execnet.XSpec(f"popen//python={gateway.command(('--image', kernel), Project(root))}")


@pytest.mark.parametrize("most", [1, 3])
def test_so_many_run_at_once_and_no_more(most: int, tmp_path: Path) -> None:
    book = tmp_path / "book"
    states._run([program(TELLS, book, most)] * (most + 2), most)
    counts = list(accumulate({"+": 1, "-": -1}[mark] for mark in book.read_text()))
    assert (len(counts), counts[-1], max(counts)) == (2 * (most + 2), 0, most)


def test_the_others_end_when_one_has_failed(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with pytest.raises(EOFError):
        states._run([program(WAITS, gate), program(FAILS), program(TELLS, tmp_path / "never", 0)], 2)
    assert not (tmp_path / "never").exists()
    # The one that waits is gone: nobody has the FIFO open for reading.
    with pytest.raises(OSError, match="No such device"):
        os.open(gate, os.O_WRONLY | os.O_NONBLOCK)


def test_why_a_state_cannot_be_made_is_said_by_the_program_that_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "said"
    monkeypatch.setenv(interpreters.TROUBLE, str(said))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(EOFError):
        states.make([spec(f"/none/bzImage-{n}", root=tmp_path) for n in (1, 2)])
    assert "/none/bzImage-" in said.read_text()


def test_of_one_kernel_and_of_workers_here_nothing_is_made_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "_run", lambda *_: pytest.fail("something was made"))
    one = spec("/none/bzImage", root=tmp_path)
    states.make([one, one, *[execnet.XSpec("popen")] * 2, execnet.XSpec("popen//python=python3")])
