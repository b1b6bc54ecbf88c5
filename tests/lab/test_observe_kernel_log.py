"""The kernel log between two moments; a line is put into it by writing to /dev/kmsg, which root may."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from harness.errors import Forbidden, Unsupported
from harness.observe import kernel_log

DEVICE = Path("/dev/kmsg")


@pytest.fixture
def _log_is_open_to_us() -> None:
    try:
        with kernel_log():
            DEVICE.open("w").close()
    except (Forbidden, Unsupported, PermissionError) as error:
        pytest.skip(str(error))


def say(text: str) -> None:
    """One record, of level 5 (notice)."""
    DEVICE.write_text(f"<5>{text}\n")


@pytest.mark.usefixtures("_log_is_open_to_us")
def test_what_was_logged_in_between_and_nothing_else() -> None:
    before, first, second, after = (f"a test of a log reader: {uuid.uuid4()}" for _ in range(4))
    say(before)
    with kernel_log() as log:
        say(first)
        assert first in log.lines()
        say(second)
    say(after)
    ours = {before, first, second, after}
    assert [line for line in log.lines() if line in ours] == [first, second]
    records = [record for record in log.records() if record.text in ours]
    assert [record.level for record in records] == [5, 5]
    assert records[0].sequence < records[1].sequence
    assert records[0].time <= records[1].time
    assert log.lost == 0


def test_who_may_not_read_it_is_told_the_setting() -> None:
    try:
        with kernel_log():
            assert os.access(DEVICE, os.R_OK)
    except Forbidden as refusal:
        assert "kernel.dmesg_restrict" in str(refusal)  # noqa: PT017
    except Unsupported:
        assert not DEVICE.exists()
