"""Renamed: harness.laws.timers. This name works for one release."""

from harness.errors import renamed
from harness.laws.timers import *  # noqa: F403

renamed("harness.claims.timers", "harness.laws.timers")
