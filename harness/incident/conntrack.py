"""What a firewall keeps in mind: the connections that it tracks, and how it changed their addresses."""

from __future__ import annotations

import msgspec

from harness.evidence.types import Endpoint
from harness.incident.facts import Moment, Source


class Tracked(msgspec.Struct, frozen=True, omit_defaults=True):
    """Entries of one protocol and state that go to one place, from behind one address.

    `destination` is where the connection was sent to, `answers_from` the address that answers, another one where the
    destination was changed. `seen_as` is the address that the destination sees, where the source was changed, and
    `ports` how many of that address's ports these entries have.
    """

    protocol: str
    state: str
    destination: Endpoint
    entries: int
    source: Source
    sources: int = 1
    answers_from: Endpoint | None = None
    seen_as: str = ""
    ports: int = 0
    unanswered: int = 0


class TrackedTable(msgspec.Struct, frozen=True, omit_defaults=True):
    """The table at one moment; `left_out` entries go to places that were too many to be listed."""

    source: Source
    total: int
    states: dict[str, int]
    flows: tuple[Tracked, ...]
    left_out: int = 0
    taken: Moment | None = None
