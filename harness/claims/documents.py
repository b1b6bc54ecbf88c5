"""The documents that claims stand in: their titles and headings, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness import files
from harness.errors import ClaimError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Document:
    """A document: the first digits of its name, its title, what it is about, its headings in order.

    `in_english` says the same as the headings, and is as many; `title_english` the same as the title.
    """

    id: str
    title: str
    subject: str
    headings: tuple[str, ...]
    in_english: tuple[str, ...]
    title_english: str


def load_documents(file: Path) -> dict[str, Document]:
    """The documents of a TOML file ([[document]] with id, title, subject, headings) by id; ClaimError if malformed."""
    import tomllib

    try:
        rows = tomllib.loads(files.content(file).decode())["document"]
        documents = [_document(row) for row in rows]
    except OSError as error:
        raise ClaimError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # tomllib's own are ValueErrors
        raise ClaimError(f"{file}: not a TOML file: {error}") from None
    except (KeyError, TypeError):
        raise ClaimError(
            f"{file}: every [[document]] needs id, title, subject and headings, and as many English ones"
        ) from None
    return {document.id: document for document in documents}


def _document(row: dict[str, Any]) -> Document:
    """A document; where nothing is said in English, its own words stand there too."""
    headings = tuple(row["headings"])
    english = tuple(row.get("headings_english", headings))
    if len(english) != len(headings):
        raise KeyError("headings_english")
    return Document(row["id"], row["title"], row["subject"], headings, english, row.get("title_english", row["title"]))
