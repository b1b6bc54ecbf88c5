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
from tests.fuzz import bounded
from tests.fuzz.ways import WAYS, lay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.fuzz.ways import Given

AT_ONCE = 25


@pytest.mark.parametrize("way", WAYS)
def test_what_is_made(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy, _, words = WAYS[way]
    end = bounded.Deadline(bounded.seconds() / 2 / len(WAYS))

    @settings(
        max_examples=AT_ONCE, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True,
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink], database=bounded.kept(way),
    )  # fmt: skip
    @given(strategy())
    def one(given_: Given) -> None:
        end.tried += 1
        with tempfile.TemporaryDirectory() as directory:
            place = Path(directory)
            lay(place, way, given_)
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
