"""What `harness bisect --all` does: every claim on all kernels at hand, and what that says of the boundaries."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from harness.cli.notes import note
from harness.errors import BadInput
from harness.evidence.walk import Standing, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.cli.machine import Machine
    from harness.evidence.types import Claim, Run
    from harness.evidence.walk import Finding, Walk
    from harness.kernels.selection import Selection
    from harness.kernels.targets import Target

# What is run now is kept here, a directory for each kernel, and found again.
KEPT = Path("out/bisect")
SETTLED, CONTRADICTED, USAGE = 0, 1, 2
SHOWN = 3
WORDS = {
    Standing.CONFIRMED: "confirmed by the evidence",
    Standing.CONTRADICTED: "contradicted by it",
    Standing.UNTOLD: "have kernels on both sides, and no claim tells",
    Standing.BEYOND: "lie where no kernel is",
}


@dataclass(frozen=True)
class Walking:
    """What is walked: kernels by the words for them, evidence that is there, claims or groups, or all."""

    kernels: tuple[str, ...] = ()
    evidence: tuple[Path, ...] = ()
    claims: tuple[str, ...] = ()
    scenarios: Path = Path("scenarios")
    kept: Path = KEPT
    selection: Selection | None = field(default=None, compare=False)
    machine: Machine | None = None


def kept_of(machine: Machine) -> Path:
    """Where what runs in a machine is kept: what another machine has measured does not stand for it."""
    return KEPT.with_name(f"{KEPT.name}-{machine.mode.name('any')}") if machine.typed else KEPT


def answer(walking: Walking, *, as_json: bool) -> int:
    """Run what is missing, walk, print; the exit code.

    1 if something is contradicted or unexpected, 2 if something did not run.
    """
    from harness.claims.files import load
    from harness.evidence.codec import read_directory

    claims = load(walking.scenarios / "claims")
    chosen = {name: claim for name, claim in claims.items() if is_chosen(name, walking.claims)}
    targets = _targets(walking)
    if walking.machine:
        walking.machine.is_had_by(targets)
        if not targets:
            walking.machine.of_nothing("there is evidence, and no --kernel")
    failed = [line for target in targets for line in _run_what_is_missing(target, chosen, walking)]
    places = _places(walking)
    failed += [
        f"{place}: not all can be read: {notice}" for place in places for notice in read_directory(place).notices
    ]
    for line in failed:
        note(line)
    found = walk(chosen, _runs(walking), [target.names[0] for target in targets])
    if not found.kernels:
        raise BadInput("there is no kernel to walk over: name one with --kernel, or evidence with --evidence DIR")
    text = msgspec.json.format(msgspec.json.encode(found), indent=1).decode() if as_json else "\n".join(lines(found))
    click.echo(text)
    if failed:
        return USAGE
    return CONTRADICTED if found.unexpected or found.of(Standing.CONTRADICTED) else SETTLED


def is_chosen(claim: str, wanted: Sequence[str]) -> bool:
    """Whether a claim, or its group, was named; every one is where none was."""
    return not wanted or claim in wanted or claim.partition(".")[0] in wanted


def _targets(walking: Walking) -> list[Target]:
    """The kernels that were named; where nothing was, neither a kernel nor evidence, those of the cache."""
    from harness.kernels.selection import Selection
    from harness.kernels.targets import Ways, archived, meant
    from harness.vagrant import reach

    selection = walking.selection or Selection(say=note)
    if walking.kernels:
        ways = Ways(lambda: selection, lambda machine, python: reach.host(machine, Path.cwd(), python))
        return meant(walking.kernels, ways)
    return [] if walking.evidence else [archived(kernel) for kernel in selection.cached]


def _places(walking: Walking) -> list[Path]:
    """The directories with evidence: those that were named, and what was run before."""
    kept = sorted(place for place in walking.kept.glob("*") if any(place.glob("*.json")))
    return list(dict.fromkeys([*walking.evidence, *kept]))


def _runs(walking: Walking) -> Iterator[tuple[str, Run]]:
    """Every run that is at hand, with the name of its claim."""
    from harness.evidence.codec import read_directory

    for place in _places(walking):
        for file in read_directory(place).files:
            yield from ((file.claim.name, run) for run in file.runs)


def _run_what_is_missing(target: Target, claims: Mapping[str, Claim], walking: Walking) -> list[str]:
    """Run the claims of which there is no evidence on a kernel; a line if they did not run."""
    from harness.cli.settling import Chosen, sessions

    version, word = target.names[0], target.names[-1]
    there = {name for name, run in _runs(walking) if run.kernel.version == version}
    missing = [name for name in claims if name not in there]
    if not missing:
        return []
    note(f"{version}: running {len(missing)} of {len(claims)} claims; the evidence goes to {walking.kept}")
    named = missing if len(missing) < len(claims) or walking.claims else []
    chosen = Chosen(version, word, walking.machine.words_for(target) if walking.machine else ())
    with sessions([chosen], walking.kept, scenarios=walking.scenarios, claims=named) as (session,):
        return [shortfall] if (shortfall := session.shortfall()) else []


# As text.


def lines(found: Walk) -> Iterator[str]:
    """What was found, for a reader: how many boundaries of each standing, and each of them."""
    yield f"{len(found.findings)} boundaries, {len(found.kernels)} kernels: {', '.join(found.kernels) or 'none'}"
    for standing, words in WORDS.items():
        findings = found.of(standing)
        yield ""
        yield f"{len(findings)} {words}"
        for finding in findings:
            yield from _finding_lines(finding)
    if found.unexpected:
        yield ""
        yield f"{len(found.unexpected)} not as expected, of any claim on any kernel"
        for each in found.unexpected:
            yield f"  {each.claim} on {each.kernel}: {each.seen}, expected was: {each.expected}"


def _finding_lines(finding: Finding) -> Iterator[str]:
    yield f"  {finding.name} ({finding.release}){_told(finding)}"
    for each in finding.contradictions:
        yield f"    {each.claim} on {each.kernel}: {each.seen}, expected was: {each.expected}"
    for sighting in finding.sightings[:SHOWN]:
        before, after = sighting.said
        yield f"    {sighting.by}: {before} on {sighting.before}, {after} on {sighting.after}"
    if (more := len(finding.sightings) - SHOWN) > 0:
        yield f"    and {more} more"


def _told(finding: Finding) -> str:
    """Between which kernels it was seen, or what is missing; and whether the table of boundaries says otherwise."""
    if finding.between is None:
        before, after = finding.at_hand
        if not before and not after:
            return ": no kernel at hand"
        if not before:
            return f": no kernel at hand lies before it, the oldest is {after[0]}"
        return f": no kernel at hand lies after it, the newest is {before[-1]}" if not after else ""
    old, new = finding.between
    table = f" (boundaries.toml: {' and '.join(finding.table) if finding.table else 'not seen'})"
    return f": between {old} and {new}{'' if finding.between == finding.table else table}"
