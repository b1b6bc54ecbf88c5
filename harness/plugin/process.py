"""Which of pytest's processes this is: the one at the terminal, or a worker of pytest-xdist's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def is_worker(config: pytest.Config) -> bool:
    """Whether this is a worker."""
    return hasattr(config, "workerinput")


def distributes(config: pytest.Config) -> bool:
    """Whether this session has workers."""
    return bool(config.getoption("tx", None)) and config.getoption("dist", "no") != "no"
