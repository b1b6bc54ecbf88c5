"""The directory that a session's evidence goes to: a file for each claim, rewritten whole after each run."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from harness import files
from harness.errors import BadInput
from harness.evidence.codec import encode_file

if TYPE_CHECKING:
    from pathlib import Path

    from harness.evidence.types import Claim, Run

# A claim's name becomes the name of a file: nothing else may.
NAME = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+")
# Kernel and test.
Key = tuple[str, str]
# The same, and how many attempts came before.
Attempt = tuple[str, str, int]


@dataclass
class EvidenceDirectory:
    """What a session has measured up to now; the directory is made with the first run.

    A session begins a claim's file anew, so an interrupted session leaves files that can be read. `session` is when it
    began, in seconds since the epoch.
    """

    path: Path
    claims: dict[str, Claim] = field(default_factory=dict)
    runs: dict[str, dict[Key, Run]] = field(default_factory=dict)
    session: float = field(default_factory=lambda: round(time.time(), 3))
    _packet_files: dict[str, Attempt] = field(default_factory=dict)
    _comes_again: set[tuple[str, Key]] = field(default_factory=set)

    def add(
        self, claim: Claim, run: Run, packets: bytes | None = None, *, comes_again: bool = False
    ) -> tuple[Run, Path]:
        """Keep a run, and write its claim's file; a run of the same test on the same kernel is replaced.

        Returns the run as it is kept, and the file.

        `comes_again` says that the test failed and is run once more: the next run has this one among its earlier ones.
        BadInput if the directory cannot be written, or for a name of a claim that is none.
        """
        if not NAME.fullmatch(claim.name):
            raise BadInput(f"a worker's evidence names the claim {claim.name!r}: not GROUP.ID in lower case")
        key = (run.kernel.release, run.nodeid)
        run = msgspec.structs.replace(run, session=self.session, kept=round(time.time(), 3))
        if (claim.name, key) in self._comes_again:
            before = self.runs[claim.name][key]
            earlier = (*before.earlier, msgspec.structs.replace(before, earlier=()))
            run = msgspec.structs.replace(run, earlier=earlier)
            self._comes_again.remove((claim.name, key))
        if comes_again:
            self._comes_again.add((claim.name, key))
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if packets is not None:
                file = self._packet_file(claim.name, run.params, (*key, len(run.earlier)))
                run = msgspec.structs.replace(run, packets=file)
                files.write(self.path / run.packets, packets)
            self.claims[claim.name] = claim
            self.runs.setdefault(claim.name, {})[key] = run
            path = self._write(claim.name)
        except OSError as error:
            raise BadInput(f"evidence cannot be written to {self.path}: {error.strerror}; see --tcp-evidence") from None
        return run, path

    def refuse_unwritable(self) -> None:
        """BadInput if no evidence can be written, before any is measured."""
        files.refuse_unwritable_directory(self.path, f"evidence cannot be kept, see --tcp-evidence: {self.path}")

    def restore(self) -> tuple[int, int]:
        """Write again what somebody has removed since it was written.

        Returns how many claims' files that were, and of how many other claims captures are gone: those are not kept in
        memory. BadInput if a file cannot be written.
        """
        gone = [name for name in self.runs if not (self.path / f"{name}.json").exists()]
        without = [name for name in self.runs if name not in gone and not self._has_its_captures(name)]
        try:
            for name in gone:
                self._write(name)
        except OSError as error:
            raise BadInput(f"evidence cannot be written to {self.path}: {error.strerror}; see --tcp-evidence") from None
        return len(gone), len(without)

    def _has_its_captures(self, name: str) -> bool:
        """Whether the captures of a claim's runs, and of their earlier attempts, are where they were written."""
        attempts = [each for run in self.runs[name].values() for each in (*run.earlier, run)]
        return all((self.path / each.packets).exists() for each in attempts if each.packets)

    def _write(self, name: str) -> Path:
        content = encode_file(self.claims[name], list(self.runs[name].values()))
        path = self.path / f"{name}.json"
        files.write(path, content)
        return path

    def _packet_file(self, claim: str, params: str, attempt: Attempt) -> str:
        stem = "-".join(part for part in (claim, re.sub(r"[^\w.-]+", "-", params).strip("-")) if part)
        name, number = f"{stem}.pcapng", 1
        while self._packet_files.setdefault(name, attempt) != attempt:
            number += 1
            name = f"{stem}-{number}.pcapng"
        return name
