"""What is typed about a file that was made, and where that file stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzz import made

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis import strategies as st

    Given = bytes | str

SCENARIOS = Path(__file__).parents[2] / "scenarios"
FILE = "queue.limit.json"
# What is typed, with the files that stand where it is typed.
WAYS: dict[str, tuple[Callable[[], st.SearchStrategy[Given]], str, tuple[str, ...]]] = {
    "report": (made.evidence, f"e/{FILE}", ("report", "e", "-o", "out.html")),
    "ktap": (made.evidence, f"e/{FILE}", ("report", "e", "--format", "ktap")),
    "kcidb": (made.evidence, f"e/{FILE}", ("report", "e", "--format", "kcidb")),
    "json": (made.evidence, f"e/{FILE}", ("report", "e", "--format", "json")),
    "compare": (made.evidence, f"e/{FILE}", ("compare", "6.1.2", "6.12.3", "--evidence", "e")),
    "compare exactly": (
        made.evidence,
        f"e/{FILE}",
        ("compare", "6.1.2", "6.12.3", "--evidence", "e", "--exact", "--all"),
    ),
    "compare verdicts": (made.evidence, f"e/{FILE}", ("compare", "6.1.2", "6.12.3", "--evidence", "e", "--verdicts")),
    "compare as JSON": (made.evidence, f"e/{FILE}", ("compare", "e", "e", "--json")),
    "compare on a page": (made.evidence, f"e/{FILE}", ("compare", "6.1.2", "6.12.3", "--evidence", "e", "--page", "-")),
    "history": (made.evidence, f"e/{FILE}", ("history", "e", "--all")),
    "history for NIPA": (made.evidence, f"e/{FILE}", ("history", "e", "--json")),
    "edition": (made.evidence, f"e/{FILE}", ("claims", "--evidence", "e")),
    "claims": (made.toml, "c/claims/queue.toml", ("bisect", "--all", "--evidence", "e", "--scenarios", "c")),
    "documents": (made.toml, "documents.toml", ("claims", "--documents", "documents.toml", "--evidence", "e")),
    "register": (made.toml, "register.toml", ("claims", "--register", "register.toml", "--evidence", "e")),
    "corrections": (made.toml, "r/queue.toml", ("claims", "--corrections", "r", "--evidence", "e")),
}


def lay(place: Path, way: str, given: Given, scenarios: Path = SCENARIOS) -> None:
    """Put the file where it stands, with what else is needed there."""
    _, file, words = WAYS[way]
    for name in ("claims", "documents.toml", "register.toml", "corrections"):
        if words[0] == "claims" and name != file.partition("/")[0]:
            (place / "scenarios").mkdir(exist_ok=True)
            (place / "scenarios" / name).symlink_to(scenarios / name)
    (place / "e").mkdir()
    (place / file).parent.mkdir(parents=True, exist_ok=True)
    (place / file).write_bytes(given if isinstance(given, bytes) else given.encode(errors="replace"))
