"""Renamed: harness.laws.queues. This name works for one release."""

from harness.errors import renamed
from harness.laws.queues import *  # noqa: F403

renamed("harness.claims.model", "harness.laws.queues")
