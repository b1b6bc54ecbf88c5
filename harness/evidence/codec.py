"""Evidence as JSON and back: one encoder, one decoder, one reader.

Whoever reads evidence reads it here. What is no evidence, or evidence of another schema, is refused in one line.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, TypeVar

import msgspec

from harness import files
from harness.errors import BadInput
from harness.evidence.types import SCHEMA, Claim, EvidenceFile, Kernel, Run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path


Decoded = TypeVar("Decoded")
# A claim's test, with its parameters, on a kernel.
Key = tuple[str, Kernel, str]


class _Head(msgspec.Struct):
    """What is looked at first."""

    schema: int


class _Envelope(msgspec.Struct):
    """A file whose runs are not looked at yet: what an interrupted session left of them is used as far as it goes."""

    schema: int
    harness: str
    claim: Claim
    runs: list[msgspec.Raw]


class Settled(msgspec.Struct, frozen=True):
    """A run and its claim, as they travel on pytest's report from a worker to the process at the terminal."""

    claim: Claim
    run: Run


_encoder = msgspec.json.Encoder()
_heads = msgspec.json.Decoder(_Head)
_envelopes = msgspec.json.Decoder(_Envelope)
_files = msgspec.json.Decoder(EvidenceFile)
_runs = msgspec.json.Decoder(Run)
_settled = msgspec.json.Decoder(Settled)


@cache
def harness_version() -> str:
    """The version of the installed package; "uninstalled" in a checkout that is only on the path."""
    try:
        return metadata.version("tcp-harness")
    except metadata.PackageNotFoundError:
        return "uninstalled"


def encode_file(claim: Claim, runs: list[Run]) -> bytes:
    """An evidence file, a line for each run, sorted by kernel and test."""
    ordered = sorted(runs, key=lambda run: (run.kernel.release, run.nodeid))
    head = _encoder.encode({"schema": SCHEMA, "harness": harness_version(), "claim": claim})
    lines = b",\n".join(_encoder.encode(run) for run in ordered)
    return head[:-1] + b',\n"runs":[\n' + lines + b"\n]}\n"


def encode_claim(claim: Claim) -> bytes:
    """A claim as an evidence file has it."""
    return _encoder.encode(claim)


def encode_settled(claim: Claim, run: Run) -> str:
    """A run with its claim, as a text."""
    return _encoder.encode(Settled(claim, run)).decode()


def decode_settled(text: str) -> Settled:
    """What encode_settled() wrote; BadInput if it is not that."""
    try:
        return _settled.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadInput(f"a worker's evidence cannot be read: {error}") from None


def read(path: Path) -> EvidenceFile:
    """An evidence file, whole; BadInput if it is not one, or one of another schema."""
    return _decode(_content(path), str(path), _files)


@dataclass(frozen=True)
class Directory:
    """The evidence of a directory; `notices` say what could not be read, a line each."""

    files: tuple[EvidenceFile, ...]
    notices: tuple[str, ...]


def read_directory(directory: Path, claims: Collection[str] | None = None) -> Directory:
    """The evidence files of a directory, as far as each can be read; of these claims or groups alone, if any are named.

    What an interrupted run left is used: a file that is not whole is left out with a notice, and so is a run.
    BadInput if there is no such directory, or if evidence in it is of another schema.
    """
    if not files.is_directory(directory):
        raise BadInput(f"{directory}: no such directory; name one that pytest's --tcp-evidence wrote")
    read_files: list[EvidenceFile] = []
    notices: list[str] = []
    for path in sorted(directory.glob("*.json")):
        if not is_of(path.stem, claims):
            continue
        try:
            read_files.append(read_content(_content(path), str(path), notices))
        except OtherSchema:
            raise
        except BadInput as error:
            notices.append(f"{path.name}: left out: {str(error).removeprefix(f'{path}: ')}")
    return Directory(tuple(_each_once(read_files, notices)), tuple(notices))


def _each_once(read_files: Sequence[EvidenceFile], notices: list[str]) -> Iterator[EvidenceFile]:
    """The files with each run once, where a directory has copies of files too: of different ones the newest counts."""
    chosen: dict[Key, Run] = {}
    different: dict[Key, str] = {}
    for file in read_files:
        for run in file.runs:
            key = file.claim.name, run.kernel, run.nodeid
            known = chosen.setdefault(key, run)
            if known != run:
                different[key] = f"{file.claim.name}: {run.nodeid} is here more than once: the newest counts"
                chosen[key] = max(known, run, key=lambda each: (each.when, _encoder.encode(each)))
    notices += different.values()
    for file in read_files:
        # A run stays in the file that it is in: what it says of the claim belongs to it.
        runs = [
            chosen.pop(key) for run in file.runs if chosen.get(key := (file.claim.name, run.kernel, run.nodeid)) == run
        ]
        yield msgspec.structs.replace(file, runs=tuple(runs))


def is_of(name: str, claims: Collection[str] | None) -> bool:
    """Whether a claim's name is one of these claims, or in one of these groups; where none are named, any is."""
    return claims is None or name in claims or name.partition(".")[0] in claims


def read_content(content: bytes, place: str, notices: list[str]) -> EvidenceFile:
    """An evidence file from its bytes; a run that cannot be read is left out with a notice, which begins with the name.

    `place` is what the file is called. BadInput if it is no evidence, OtherSchema if it is of another schema.
    """
    envelope = _decode(content, place, _envelopes)
    runs = _readable(place.rpartition("/")[2], envelope, notices)
    return EvidenceFile(SCHEMA, envelope.harness, envelope.claim, runs)


class OtherSchema(BadInput):
    """Evidence that another version of the harness wrote."""


def _readable(name: str, envelope: _Envelope, notices: list[str]) -> tuple[Run, ...]:
    runs = []
    for number, raw in enumerate(envelope.runs, 1):
        try:
            runs.append(_runs.decode(raw))
        except (msgspec.MsgspecError, RecursionError) as error:
            notices.append(f"{name}: run {number} is left out: {error}")
    return tuple(runs)


def _content(path: Path) -> bytes:
    try:
        return files.content(path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"{path}: cannot be read: {why}") from None


def _decode(content: bytes, place: str, decoder: msgspec.json.Decoder[Decoded]) -> Decoded:
    try:
        written = _heads.decode(content).schema
        if written != SCHEMA:
            raise OtherSchema(
                f"{place}: evidence of schema {written}, this harness reads schema {SCHEMA}: run the scenarios again"
            )
        return decoder.decode(content)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadInput(f"{place}: not an evidence file: {error}") from None
