"""What a diagnosis says, as types: a Diagnosis has findings, remarks, and what the files did not contain.

`harness diagnose --json` prints one Diagnosis, schema 1; docs/diagnosis.schema.json is made from these types. Files
stand as an editor takes them, "netstat:12". What is empty is left out of the JSON.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from harness.evidence.types import Endpoint, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.incident.facts import Source

SCHEMA: Final = 1


class Certainty(StrEnum):
    """How sure a finding is.

    Certain: the kernel itself says so, of the moment that the files are of. Likely: the numbers have this cause, as far
    as we know, and hardly another. Possible: they can have it; or they are sums since boot, which say nothing of now.
    """

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"

    @property
    def rank(self) -> int:
        """0 for the surest."""
        return list(Certainty).index(self)


class Where(StrEnum):
    """What kind of place a finding is about."""

    LISTENER = "listener"
    DESTINATION = "destination"
    TABLE = "table"
    PROGRAM = "program"
    MACHINE = "machine"
    UNKNOWN = "unknown"


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where something is wrong: a listener or a destination by its endpoint, with the programs that hold it.

    `name` is what a reader sees; `namespace` is "" for the machine's own network namespace.
    """

    kind: Where
    name: str
    endpoint: Endpoint | None = None
    programs: tuple[str, ...] = ()
    namespace: str = ""

    def __str__(self) -> str:
        inside = f" in network namespace {self.namespace}" if self.namespace else ""
        return f"{self.name}{inside}"


class Reason(msgspec.Struct, frozen=True, omit_defaults=True):
    """A number that speaks for a finding, as a sentence, and the files with the lines that it stands in."""

    says: str
    files: tuple[str, ...] = ()


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True):
    """A claim that explains a finding: what it says, and what this machine's kernel makes of it.

    `verdict` is missing where no file names the kernel, or the claim files are not at hand. `hedge` says why the
    verdict is less sure than it looks.
    """

    claim: str
    statement: str = ""
    verdict: Verdict | None = None
    because: str = ""
    hedge: str = ""


class Useless(msgspec.Struct, frozen=True, omit_defaults=True):
    """Advice that one reads and that does not help here; the claim that settles it, if one does."""

    advice: str
    why: str
    explained_by: Explanation | None = None


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that is wrong.

    `diagnosis` is its name, the same on every machine; `what` a sentence. `follows_from` names the findings that it is
    a consequence of, by their places in the list, from 1. `settle` says what would make it certain, or rule it out.
    """

    diagnosis: str
    what: str
    sure: Certainty
    place: Place
    reasons: tuple[Reason, ...]
    follows_from: tuple[int, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    settle: tuple[str, ...] = ()
    helps: tuple[str, ...] = ()
    useless: tuple[Useless, ...] = ()

    @property
    def sentence(self) -> str:
        """What is wrong, and in which network namespace, unless it is the machine's own."""
        where = self.place.namespace
        return f"In network namespace {where}: {self.what}" if where else self.what


class Remark(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that was seen and is no finding; why not is part of it."""

    says: str
    files: tuple[str, ...] = ()


class Missing(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the files do not contain: what it is, why, what to give, and the diagnoses that could not be made for it."""

    what: str
    why: str
    give: str
    diagnoses: tuple[str, ...]


class Diagnosis(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that is said of a machine; `looked_for` are the diagnoses that were tried, by name."""

    schema: Literal[1]
    harness: str
    files: tuple[str, ...]
    findings: tuple[Finding, ...]
    looked_for: tuple[str, ...]
    kernel: str = ""
    distribution: str = ""
    missing: tuple[Missing, ...] = ()
    remarks: tuple[Remark, ...] = ()
    notices: tuple[str, ...] = ()


def reason(says: str, *sources: Source) -> Reason:
    """A reason with its files, each once."""
    return Reason(says, files_of(sources))


def files_of(sources: Iterable[Source]) -> tuple[str, ...]:
    """Files and lines as text, each once."""
    return tuple(dict.fromkeys(str(source) for source in sources))


def as_json(diagnosis: Diagnosis) -> str:
    """A diagnosis for programs."""
    return msgspec.json.format(msgspec.json.encode(diagnosis), indent=1).decode() + "\n"
