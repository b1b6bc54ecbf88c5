"""What is made of the harness's own types and grammars, and spoilt: whoever reads it says what it is, or a line.

The seconds that all of it may take are FUZZ_SECONDS; what was found once is tried again first (Hypothesis keeps it).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, given, settings

from harness.cli import cli, plain
from harness.errors import HarnessError
from tests.fuzz import bounded, made

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hypothesis import strategies as st

    Given = bytes | str

AT_ONCE = 25
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


@pytest.mark.parametrize("way", WAYS)
def test_what_is_made(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy, file, words = WAYS[way]
    end = bounded.Deadline(bounded.seconds() / 2 / len(WAYS))
    scenarios = Path(__file__).parents[2] / "scenarios"

    @settings(
        max_examples=AT_ONCE, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True,
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink], database=bounded.kept(way),
    )  # fmt: skip
    @given(strategy())
    def one(given_: Given) -> None:
        end.tried += 1
        with tempfile.TemporaryDirectory() as directory:
            place = Path(directory)
            for name in ("claims", "documents.toml", "register.toml", "corrections"):
                if words[0] == "claims" and name != file.partition("/")[0]:
                    (place / "scenarios").mkdir(exist_ok=True)
                    (place / "scenarios" / name).symlink_to(scenarios / name)
            (place / "e").mkdir()
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            content = given_ if isinstance(given_, bytes) else given_.encode(errors="replace")
            (place / file).write_bytes(content)
            monkeypatch.chdir(place)
            ends_well(words)

    while not end.is_over():
        one()
    print(f"{way}: {end.tried} examples")


def ends_well(words: Sequence[str]) -> None:
    """No traceback: an error of the harness's own, which main() makes one line of, or an exit status."""
    result = CliRunner().invoke(cli, list(words))
    if result.exception is not None and not isinstance(result.exception, (HarnessError, SystemExit)):
        raise result.exception
    if isinstance(result.exception, HarnessError):
        assert plain(str(result.exception)).strip()
