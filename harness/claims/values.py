"""Renamed: harness.laws.ranges. This name works for one release."""

from harness.errors import renamed
from harness.laws.ranges import *  # noqa: F403

renamed("harness.claims.values", "harness.laws.ranges")
