"""Frames that the machine itself dropped while a test ran: another process's flood may have made the test fail."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

BACKLOG = (
    "Meanwhile this machine's receive backlog dropped {} frames. Each CPU has one, of net.core.netdev_max_backlog "
    "frames, for all namespaces: a flood, also of another process, makes it drop what others send."
)


@contextmanager
def shown_in_failures(item: pytest.Item) -> Iterator[None]:
    """When a test fails while the machine dropped frames that its lab may have needed, say so in the failure."""
    from harness.observe import backlog_drops

    before = backlog_drops()
    try:
        yield
    except BaseException:  # pytest.fail() raises no Exception
        if dropped := backlog_drops() - before:
            item.add_report_section("call", "machine", BACKLOG.format(dropped))
        raise
