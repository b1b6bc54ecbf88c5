"""The claims of claim files: harness.claims.files reads them, harness.evidence.types says what they are."""

from __future__ import annotations

from harness.claims.files import find, load
from harness.evidence.types import Change, Claim, Expectation, Source, Verdict

__all__ = ["Change", "Claim", "Expectation", "Source", "Verdict", "find", "load"]
