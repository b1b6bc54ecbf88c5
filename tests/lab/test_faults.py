"""What must remain of a run in which something fails; and whoever judges it sees what is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench.faults import FAULTS, tried

if TYPE_CHECKING:
    from pathlib import Path

NOTHING_FAILS = next(fault for fault in FAULTS if fault.name == "none")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_must_remain_remains(fault: object, tmp_path: Path) -> None:
    assert tried(fault, tmp_path) == ""  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("PYTEST -k nothing", "it ended with 5: "),
        ("PYTEST; rm -r e", "no evidence is kept"),
        ("PYTEST -k 'ipv4 and not 3'", "3 runs are kept, and 8 at least had to be"),
        ("PYTEST; for file in e/*.json; do echo '{' >$file; done", "runs are kept, and 8 at least had to be; ["),
        ("PYTEST; echo Traceback", "a traceback: "),
        ("PYTEST; mkdir /mnt/tmp/harness-kept", "it has left /mnt/tmp/harness-kept"),
        ("PYTEST; setsid sleep 1000 >/dev/null 2>&1 &", "it has left sleep 1000"),
    ],
)
def test_what_does_not_remain_is_seen(script: str, says: str, tmp_path: Path) -> None:
    """With nothing that fails in the run, and something afterwards."""
    assert says in tried(replace(NOTHING_FAILS, script=script), tmp_path)
