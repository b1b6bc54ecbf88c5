"""How many tests there are on several kernels, and the share of what is done."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.plugin import counting


@pytest.mark.parametrize(
    ("came", "kernels", "expected"),
    [
        ([], 3, 0),
        ([("6.12", 36)], 3, 108),
        ([("6.12", 36), ("6.12", 36)], 1, 36),
        ([("6.12", 36), ("7.3", 30)], 3, 102),
        ([("6.12", 36), ("7.3", 30), ("5.10", 0)], 3, 66),
        ([(None, 487), (None, 487)], 0, 487),
    ],
)
def test_a_kernel_that_has_not_come_is_counted_as_the_others(
    came: list[tuple[str | None, int]], kernels: int, expected: int
) -> None:
    config: Any = SimpleNamespace(stash=pytest.Stash())
    for kernel, tests in came:
        counting.add(config, kernel, tests)
    assert counting.expected(config, kernels) == expected
