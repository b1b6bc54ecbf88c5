"""The order of findings: causes first, the surest of them before the others; then what follows from them.

Of two that are as sure, that of the machine's own network namespace comes before that of a container's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from harness.diagnosis.catalogue import NAMES, causes
from harness.diagnosis.findings import Certainty

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.diagnosis.findings import Finding


def in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings in their order, each with the places of those that it follows from."""
    because = {place: _causes_of(place, findings) for place in range(len(findings))}
    depth = {place: _depth(place, because) for place in because}
    order = sorted(because, key=lambda place: (depth[place], *_rank(findings[place]), place))
    new = {place: number for number, place in enumerate(order, 1)}
    return tuple(
        msgspec.structs.replace(findings[place], follows_from=tuple(sorted(new[cause] for cause in because[place])))
        for place in order
    )


def _causes_of(place: int, findings: Sequence[Finding]) -> list[int]:
    """A cause has to be as sure as likely, at least: what is merely possible explains nothing."""
    return [
        other
        for other, cause in enumerate(findings)
        if other != place and cause.sure is not Certainty.POSSIBLE and causes(cause, findings[place])
    ]


def _depth(place: int, because: dict[int, list[int]]) -> int:
    """How many causes stand one behind the other; the catalogue has no circle."""
    return max((_depth(cause, because) + 1 for cause in because[place]), default=0)


def _rank(finding: Finding) -> tuple[int, bool, int]:
    return finding.sure.rank, finding.place.namespace != "", NAMES.index(finding.diagnosis)
