"""Renamed: harness.laws.kernel. This name works for one release."""

from harness.errors import renamed
from harness.laws.kernel import *  # noqa: F403

renamed("harness.claims.kernel", "harness.laws.kernel")
