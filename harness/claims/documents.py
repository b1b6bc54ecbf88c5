"""The documents that claims stand in: their titles and headings in order, and what is missing of what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import ClaimError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from harness.claims.data import Claim


@dataclass(frozen=True)
class Document:
    """A document: the first digits of its name, its title, what it is about, its headings in order."""

    id: str
    title: str
    subject: str
    headings: tuple[str, ...]


def load_documents(file: Path) -> dict[str, Document]:
    """The documents of a TOML file ([[document]] with id, title, subject, headings) by id; ClaimError if malformed."""
    import tomllib

    try:
        rows = tomllib.loads(file.read_text(encoding="utf-8"))["document"]
        made = [Document(row["id"], row["title"], row["subject"], tuple(row["headings"])) for row in rows]
    except OSError as error:
        raise ClaimError(f"{file}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ClaimError(f"{file}: not a TOML file: {error}") from None
    except (KeyError, TypeError):
        raise ClaimError(f"{file}: every [[document]] needs id, title, subject and headings") from None
    return {one.id: one for one in made}


def misplaced(claims: Mapping[str, Claim], documents: Mapping[str, Document]) -> list[str]:
    """A line for each claim that names a document or heading that does not exist."""
    problems = []
    for name, claim in claims.items():
        for source in claim.sources:
            document = documents.get(source.document)
            if document is None:
                problems.append(f"{name}: there is no document {source.document!r}")
            elif source.heading not in document.headings:
                problems.append(f"{name}: document {source.document} has no heading {source.heading!r}")
    return problems


def unsettled(register: Iterable[str], claims: Mapping[str, Claim], tested: Iterable[str]) -> list[str]:
    """A line for each statement of the documents without a claim or a scenario, and for each claim that is not one.

    `register` has the full names of all statements, `tested` those that scenarios are marked with.
    """
    wanted = list(register)
    tested = set(tested)
    problems = [f"{name}: stands in the register twice" for name in sorted(set(wanted)) if wanted.count(name) > 1]
    problems += [f"{name}: no claim file has it" for name in wanted if name not in claims]
    problems += [f"{name}: no scenario settles it" for name in wanted if name in claims and name not in tested]
    problems += [f"{name}: is not in the register" for name in claims if name not in wanted]
    return problems
