"""Cables that delayed or lost frames while a test ran: a failure says what they did, and the seed to do it again."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.plugin.fixtures import LABS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


@contextmanager
def shown_in_failures(item: pytest.Item) -> Iterator[None]:
    """When a test fails whose lab has such cables, tell of them in the failure."""
    try:
        yield
    except BaseException:  # pytest.fail() raises no Exception
        used = [used for lab in item.stash.get(LABS, []) for cable in lab.cables if (used := cable.used())]
        if used:
            from harness.report.lines import told

            item.add_report_section("call", "cables", "\n".join(map(told, used)))
        raise
