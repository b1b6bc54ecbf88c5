"""The machine is untouched by a run that floods, however the run ends: compared before, meanwhile and after."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.errors import MissingProgram
from harness.lab import program

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _programs_are_here(labs_work_here: None) -> None:
    """What the run within needs, this process needs too: it would be skipped there, and hang here."""
    try:
        for name in ("nginx", "hping3"):
            program.find(name)
    except MissingProgram as error:
        pytest.skip(str(error))


def run_in_a_small_machine(directory: Path, how: str, *options: str) -> dict[str, Any]:
    """See tests/lab/small_machine.py."""
    command = [sys.executable, "-m", "tests.lab.small_machine", str(directory), how, *options]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    assert "failed" not in seen, seen["failed"]
    return seen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "options"),
    [
        ("normally", ()),
        ("Ctrl-C", ()),
        ("SIGKILL", ()),
        ("normally", ("-n", "2")),
        ("Ctrl-C", ("-n", "2")),
        ("SIGKILL", ("-n", "2")),
        ("SIGKILL of all", ("-n", "2")),
    ],
    ids=lambda value: value if isinstance(value, str) else "".join(value) or "alone",
)
def test_nothing_is_left_of_a_flood(tmp_path: Path, how: str, options: tuple[str, ...]) -> None:
    seen = run_in_a_small_machine(tmp_path, how, *options)
    before, meanwhile, after = seen["before"], seen["meanwhile"], seen["after"]
    # The instruments see what is to disappear: per process its own namespace, client and server; per lab two programs.
    runs = 2 if options else 1
    assert (before["processes"], before["namespaces"]) == ([], [])
    assert seen["ids given"] == len(meanwhile["namespaces"]) == 3 * runs
    assert (meanwhile["processes"].count("nginx"), meanwhile["processes"].count("hping3")) == (2 * runs, runs)
    for part in before:
        assert after[part] == before[part], f"{part}\n{seen['output']}"
    if how == "normally":
        assert "2 passed" in seen["output"]
