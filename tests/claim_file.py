"""A file of claims for tests that run a scenario of their own beside it."""

from __future__ import annotations

CLAIM = """
[[claim]]
id = "{name}"
statement = "ten may wait"
source = [ {{ document = "000", heading = "h" }} ]
[[claim.expect]]
kernels = ">=3.0"
verdict = "{verdict}"
because = "the queue is full only beyond its limit"
commit = "64a146513f8f"
subject = "[NET]: Revert incorrect accept queue backlog changes."
release = "2.6.21"
"""


def claim_file(*, limit: str = "refuted", **more: str) -> str:
    """The group `queue` with the claim `limit`, and more as name=verdict; `limit` is the verdict expected of that."""
    verdicts = {"limit": limit, **more}
    return 'group = "queue"\n' + "".join(CLAIM.format(name=name, verdict=verdict) for name, verdict in verdicts.items())
