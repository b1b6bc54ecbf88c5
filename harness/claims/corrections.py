"""What to write instead, and what a document's advice is worth: texts in English and Chinese beside each claim.

A file of scenarios/corrections/ is for a group, and has a table for a claim:

    [capacity]                  # of the group accept-queue: the file's name
    worth = "none"              # what the document's advice is worth: safe | useless | harmful | none if it gives none
    [capacity.en]
    right = "…"                 # what is true; left out where the reasons of the claim's expectations say it
    instead = "…"               # a sentence that the document's author could paste
    advice = "…"                # what follows for who has read it
    [capacity.zh]
    says = "…"                  # what the document says, in our words
    right = "…"
    instead = "…"
    advice = "…"

The texts are true of every kernel: they name the release where it changed. Every claim that some kernel refutes needs
them; one that holds and can be misread may have them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from harness import files
from harness.errors import ClaimError
from harness.evidence.types import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from harness.evidence.types import Claim

# Claims of this document are our own: nothing is corrected by them.
OURS = "kernel"


class Worth(StrEnum):
    """What becomes of somebody who follows the document."""

    SAFE = "safe"
    USELESS = "useless"
    HARMFUL = "harmful"
    NONE = "none"


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The texts in one language."""

    says: str = ""
    right: str = ""
    instead: str = ""
    advice: str = ""


class Correction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to write instead of a claim, what to do, and what the document's own advice is worth."""

    worth: Worth
    en: Words = Words()
    zh: Words = Words()


NOTHING = Correction(Worth.NONE)


def load_corrections(directory: Path) -> dict[str, Correction]:
    """The corrections of a directory by the claims' full names; ClaimError, naming the file, for what is malformed."""
    found: dict[str, Correction] = {}
    for file in sorted(directory.glob("*.toml")):
        try:
            table = msgspec.toml.decode(files.content(file), type=dict[str, Correction])
        except OSError as error:
            raise ClaimError(f"{file}: cannot be read: {error.strerror}") from None
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise ClaimError(f"{file}: {error}") from None
        found |= {f"{file.stem}.{name}": correction for name, correction in table.items()}
    return found


def corrects(claim: Claim) -> bool:
    """Whether some kernel refutes what a document says."""
    ours = all(source.document == OURS for source in claim.sources)
    return not ours and any(each.verdict is Verdict.REFUTED for each in claim.expectations)


def missing(claims: Mapping[str, Claim], corrections: Mapping[str, Correction]) -> list[str]:
    """The texts that are not there and must be, as claim, language and name."""
    return [
        f"{name}: {text}"
        for name, claim in claims.items()
        if corrects(claim)
        for text in _missing_of(corrections.get(name, NOTHING))
    ]


def _missing_of(correction: Correction) -> Iterator[str]:
    wanted = {"en": ("instead", "advice"), "zh": ("says", "right", "instead", "advice")}
    for language, names in wanted.items():
        words = getattr(correction, language)
        yield from (f"{language}.{name}" for name in names if not getattr(words, name))
