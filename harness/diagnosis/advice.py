"""What goes with a finding: claims with their verdict for this kernel, what settles it, what helps, what does not."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.diagnosis.findings import Explanation, Useless
from harness.laws.boundaries import boundary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.diagnosis.findings import Finding
    from harness.evidence.types import Claim
    from harness.laws.kernel import KernelVersion

TABLE = Path(__file__).with_name("advice.toml")
# Of other distributions the release says little of what was brought back from later kernels.
BACKPORTS = (".el", ".fc", "generic", "default", "amzn", "uek")
LONG_LIVED = "a distribution's kernel: it may have later changes that its number does not show"


class Useful(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the table has for a finding."""

    claims: tuple[str, ...]
    settle: tuple[str, ...]
    helps: tuple[str, ...]
    useless: tuple[str, ...]


class Vain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Advice that does not help."""

    advice: str
    why: str
    claim: str = ""
    boundary: str = ""
    since: str = ""
    before: str = ""

    def why_on(self, kernel: KernelVersion | None) -> str:
        """Why it does not help on a kernel."""
        if not self.boundary or kernel is None:
            return self.why
        return self.since if boundary(self.boundary).holds_on(kernel) else self.before


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """advice.toml."""

    finding: dict[str, Useful]
    useless: dict[str, Vain]


@cache
def table() -> Table:
    """What stands in advice.toml."""
    with TABLE.open("rb") as file:
        return msgspec.convert(tomllib.load(file), Table)


def advise(finding: Finding, claims: Mapping[str, Claim], kernel: KernelVersion | None) -> Finding:
    """A finding with what goes with it."""
    useful = table().finding[finding.diagnosis]
    return msgspec.structs.replace(
        finding,
        explanations=tuple(explain(name, claims, kernel) for name in useful.claims),
        settle=tuple(_filled(line, finding) for line in useful.settle),
        helps=tuple(_filled(line, finding) for line in useful.helps),
        useless=tuple(_useless(table().useless[name], claims, kernel) for name in useful.useless),
    )


def _filled(line: str, finding: Finding) -> str:
    endpoint = finding.place.endpoint
    words = {
        "port": str(endpoint.port) if endpoint else "PORT",
        "peer": str(endpoint) if endpoint else "PEER",
        "place": str(finding.place),
    }
    return line.format(**words)


def _useless(vain: Vain, claims: Mapping[str, Claim], kernel: KernelVersion | None) -> Useless:
    explained = explain(vain.claim, claims, kernel) if vain.claim else None
    return Useless(vain.advice, vain.why_on(kernel), explained)


def explain(name: str, claims: Mapping[str, Claim], kernel: KernelVersion | None) -> Explanation:
    """A claim with what is expected of it on a kernel, as its file says."""
    claim = claims.get(name)
    if claim is None:
        return Explanation(name)
    expected = claim.expected_on(kernel) if kernel else None
    if expected is None:
        return Explanation(name, claim.statement)
    return Explanation(name, claim.statement, expected.verdict, expected.because, _hedge(kernel))


def _hedge(kernel: KernelVersion | None) -> str:
    return LONG_LIVED if kernel and any(word in kernel.printed for word in BACKPORTS) else ""
