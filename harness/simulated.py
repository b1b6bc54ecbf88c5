"""Whether this machine's time is simulated."""

from __future__ import annotations

import os

# Set in a machine whose time is simulated: it counts instructions, and an idle minute costs nothing.
IS_SIMULATED = "TCP_HARNESS_SIMULATED_TIME"


def is_simulated() -> bool:
    """Whether this machine's time is simulated."""
    return IS_SIMULATED in os.environ
