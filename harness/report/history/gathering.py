"""The evidence of many runs, wherever it lies: directories, directories of them, archives of either.

Nothing is unpacked to the disk, and a run is kept without what its history does not need: of its phases the comparisons
alone.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from harness.errors import BadInput
from harness.evidence.canonical import PORT_RANGE
from harness.evidence.codec import is_of, read_content
from harness.evidence.directory import NAME
from harness.evidence.types import Claim, Phase, Run
from harness.evidence.values import storable
from harness.incident.places import places
from harness.incident.streams import broken

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from harness.evidence.types import Knob
from harness.incident.places import Place

# An evidence file of all runs of a claim has some hundred kilobytes.
LARGEST = 64 << 20
ENDING = ".json"


class Kept(msgspec.Struct, frozen=True):
    """A run, the file that it is in, and the version of the harness that wrote it."""

    claim: Claim
    run: Run
    file: str
    harness: str

    @property
    def place(self) -> str:
        """The directory of the file: on the disk, or in an archive."""
        return str(PurePosixPath(self.file).parent)


class Gathered(msgspec.Struct, frozen=True):
    """All that was found; `notices` say what could not be read, a line each."""

    runs: tuple[Kept, ...]
    notices: tuple[str, ...]


def gather(named: Sequence[Path], claims: Collection[str] | None = None) -> Gathered:
    """The runs in what the user named; of these claims or groups alone, where they are named.

    What is named GROUP.ID.json is evidence; other files are passed over. BadInput for a place without evidence, and for
    an archive that unpacks to too much or has paths that lead out of it.
    """
    runs: list[Kept] = []
    notices: list[str] = []
    shared: dict[bytes, Phase] = {}
    for place in dict.fromkeys(named):
        before, said = len(runs), len(notices)
        for each in _contents(place, claims, notices):
            runs += _runs(each.file, each.content, notices, shared)
        if len(runs) == before:
            raise BadInput(storable(_nothing_in(place, claims, notices[said:])))
    return Gathered(tuple(runs), tuple(map(storable, notices)))


class _Content(msgspec.Struct, frozen=True):
    file: str
    content: bytes


def _contents(named: Path, claims: Collection[str] | None, notices: list[str]) -> Iterator[_Content]:
    """The files that are evidence by their names."""
    for place in places(named, notices.append, lambda _: False, begins=False):
        _refuse_what_leads_out(place)
        path = PurePosixPath(place.path)
        if path.suffix == ENDING and NAME.fullmatch(path.stem) and is_of(path.stem, claims):
            try:
                content = place.stream.read(LARGEST + 1)
            except broken() as error:
                notices.append(f"{place.name}: left out: cannot be read to its end: {error}")
                continue
            if len(content) > LARGEST:
                notices.append(f"{place.name}: left out: larger than {LARGEST >> 20} MiB, which no evidence file is")
            else:
                yield _Content(place.name, content)


def _refuse_what_leads_out(place: Place) -> None:
    """BadInput for a member whose path would lead out of its archive."""
    for depth, member in enumerate(place.members):
        path = PurePosixPath(member)
        if path.is_absolute() or ".." in path.parts:
            archive = place.name.removesuffix("".join(f"!{inner}" for inner in place.members[depth:]))
            leads = "which leads out of the archive: nothing of it is read"
            raise BadInput(f"{archive}: has a file named {member!r}, {leads}")


def _runs(file: str, content: bytes, notices: list[str], shared: dict[bytes, Phase]) -> Iterator[Kept]:
    said = len(notices)
    try:
        evidence = read_content(content, file, notices)
    except BadInput as error:
        notices.append(f"{file}: left out: {str(error).removeprefix(f'{file}: ')}")
        return
    # Of a run that is left out the codec says the file's name alone, and there may be many of that name.
    notices[said:] = [f"{PurePosixPath(file).parent}/{notice}" for notice in notices[said:]]
    for run in evidence.runs:
        yield Kept(evidence.claim, _slim(run, shared), storable(file), evidence.harness)


def _slim(run: Run, shared: dict[bytes, Phase]) -> Run:
    """A run with the comparisons of its phases, and what its ports are drawn from; phases that are equal are shared."""
    phases = []
    for phase in run.phases:
        slim = Phase(phase.kind, phase.title, phase.comparisons, _ranges(phase), interrupted=phase.interrupted)
        phases.append(shared.setdefault(msgspec.msgpack.encode(slim), slim))
    earlier = tuple(_slim(attempt, shared) for attempt in run.earlier)
    return msgspec.structs.replace(run, phases=tuple(phases), earlier=earlier, impairments=())


def _ranges(phase: Phase) -> dict[str, dict[str, Knob]]:
    return {host: {PORT_RANGE: knobs[PORT_RANGE]} for host, knobs in phase.knobs.items() if PORT_RANGE in knobs}


def _nothing_in(place: Path, claims: Collection[str] | None, notices: Sequence[str]) -> str:
    what = "no evidence here" if claims is None else f"no evidence of {', '.join(claims)} here"
    also = f" ({notices[-1]})" if notices else ""
    return f"{place}: {what}{also}; name directories that pytest's --tcp-evidence wrote, or archives of them"
