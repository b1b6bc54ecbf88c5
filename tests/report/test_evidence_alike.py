"""Evidence that is the same in another shape says the same: split, joined, in another order, twice, renamed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.report.matrix import making
from tests.report.made_evidence import claim, run, save

if TYPE_CHECKING:
    from pathlib import Path

BROKEN: dict[str, Any] = {"verdict": None, "outcome": "broken", "reason": "three"}


# The matrix.


@pytest.mark.parametrize("order", [("four", "six"), ("six", "four")])
def test_a_matrix_of_a_run_in_two_directories_is_that_of_the_whole(tmp_path: Path, order: tuple[str, str]) -> None:
    """Of a claim only what the last directory had was told: what was wrong with IPv4 in the other was gone."""
    runs = run(params="ipv4", **BROKEN), run(params="ipv6")
    save(tmp_path / "whole", claim(), *runs)
    for place, part in zip(("four", "six"), runs, strict=True):
        save(tmp_path / place, claim(), part)
    whole = making.of_evidence([tmp_path / "whole"])
    assert whole.claims[0].cells["6.1.2"].said == "broken"
    assert making.dump(making.of_evidence([tmp_path / place for place in order])) == making.dump(whole)


def test_two_builds_of_one_version_are_told_together_in_a_matrix(tmp_path: Path) -> None:
    """The name of the build decided which of the two was told."""
    for name, broken in (("after", "a"), ("before", "b")):
        runs = [run(kernel_name=each, **(BROKEN if each == broken else {})) for each in ("a", "b")]
        save(tmp_path / name, claim(), *runs)
        assert making.of_evidence([tmp_path / name]).claims[0].cells["6.1.2"].said == "broken"


def test_of_a_test_that_two_directories_have_the_last_counts_in_a_matrix(tmp_path: Path) -> None:
    save(tmp_path / "monday", claim(), run(**BROKEN))
    save(tmp_path / "friday", claim(), run())
    cells = [making.of_evidence([tmp_path / a, tmp_path / b]).claims[0].cells["6.1.2"] for a, b in
             (("monday", "friday"), ("friday", "monday"))]  # fmt: skip
    assert [(cell.said, cell.runs) for cell in cells] == [("refuted", 1), ("broken", 1)]
