"""The model of the two ceilings against figures that were measured or published."""

from __future__ import annotations

import pytest

from harness.laws.kernel import KernelVersion
from harness.laws.queues import Knobs, half_open, waiting


def kernel(text: str) -> KernelVersion:
    return KernelVersion.parse(text)


@pytest.mark.parametrize(
    ("version", "knobs", "expected"),
    [
        # Document 000, on CentOS 6.5: tcp_max_syn_backlog 512, a backlog of 128, "256 seen".
        ("2.6.32", Knobs(128, 128, 512, 1), 256),
        ("4.3", Knobs(128, 128, 512, 1), 256),
        ("4.4", Knobs(128, 128, 512, 1), 128),
        ("5.10.233", Knobs(128, 4096, 512, 0), 128),
        ("5.10.234", Knobs(128, 4096, 512, 0), 129),
        ("5.11", Knobs(128, 4096, 512, 0), 128),
        ("6.12.9", Knobs(128, 4096, 512, 0), 128),
        ("6.12.10", Knobs(128, 4096, 512, 0), 129),
        ("7.3", Knobs(128, 4096, 512, 0), 129),
        ("6.1", Knobs(1000, 4096, 128, 0), 97),
        ("7.3", Knobs(1000, 4096, 128, 0), 97),
        ("7.3", Knobs(1000, 4096, 128, 1), 1001),
        ("7.3", Knobs(1000, 4096, 128, 2), 0),
        ("5.11", Knobs(0, 4096, 4096, 0), 0),
        ("6.13", Knobs(0, 4096, 4096, 0), 1),
    ],
)
def test_half_open(version: str, knobs: Knobs, expected: int) -> None:
    assert half_open(kernel(version), knobs) == expected


@pytest.mark.parametrize(
    ("version", "knobs", "expected"),
    [
        ("5.10", Knobs(10, 4096), 11),
        ("7.3", Knobs(10, 5), 6),
        ("7.3", Knobs(-1, 128), 129),
        ("5.11", Knobs(0, 4096, 4096, 0), 0),
        ("5.11", Knobs(0, 4096, 4096, 1), 1),
        ("6.13", Knobs(0, 4096, 4096, 0), 1),
    ],
)
def test_waiting(version: str, knobs: Knobs, expected: int) -> None:
    assert waiting(kernel(version), knobs) == expected
