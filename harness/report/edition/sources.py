"""What an edition is made from, read from its files: those that are not there are done without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.claims.corrections import load_corrections
from harness.claims.documents import load_documents
from harness.claims.files import load
from harness.claims.register import read
from harness.report.edition.building import Sources

if TYPE_CHECKING:
    from pathlib import Path


def read_sources(claims: Path, documents: Path, register: Path, corrections: Path) -> Sources:
    """The claims with their documents, and where they are there the register and the corrections.

    ClaimError for what is malformed.
    """
    return Sources(
        load(claims),
        load_documents(documents),
        read(register) if register.is_file() else None,
        load_corrections(corrections),
    )
