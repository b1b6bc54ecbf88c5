"""The ways in which a claim scenario can fail, a class a kind; the message is all that a reader needs first."""

from __future__ import annotations

from harness.errors import HarnessError


class ClaimFailure(HarnessError):
    """Base of the failures that the record of an experiment itself finds."""


class Incomplete(ClaimFailure):
    """The scenario measured no effect, or no control: nothing is settled."""


class Broken(ClaimFailure):
    """A premise of the experiment, or its control, is not met: the instrument is at fault, not the claim."""


class Unexplained(ClaimFailure):
    """What was measured is neither what the document says nor what our account of the kernel says."""


class Unexpected(ClaimFailure):
    """The verdict is not the one that the claim file expects on this kernel."""
