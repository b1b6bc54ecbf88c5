"""Hooks that conftest files and other plugins can implement. Each is called in the process at the terminal alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from harness.evidence.types import Claim, Run
    from harness.kernels.targets import Target


@pytest.hookspec
def pytest_tcp_claim_settled(config: pytest.Config, claim: Claim, run: Run) -> None:
    """A test of a claim has ended, and this is what came out: called once for each test and kernel.

    `run.said` is the verdict ("holds", "refuted", "not applicable"), or why there is none: "not settled",
    "failed", "incomplete", "broken", "unexplained", "unexpected". `run.phases` has the measurements.

    An attempt that pytest-rerunfailures repeats is not told; `run.earlier` of the last one has it.
    """


@pytest.hookspec
def pytest_tcp_evidence_written(config: pytest.Config, claim: Claim, path: Path) -> None:
    """The evidence of a claim was written to `path`, a JSON file (docs/evidence.schema.json).

    The file is complete, and another run of the same claim replaces it: the hook is then called again.
    """


@pytest.hookspec(firstresult=True)
def pytest_tcp_kernel(config: pytest.Config, word: str) -> Target | None:
    """What a word of --tcp-kernel means, if it is a kernel of a kind that only you know; None if it is not.

    Return one of harness.kernels.targets (`Built`, `Remote`), or your own subclass of `Target`: `names` are what the
    kernel may be called, and `interpreter()` is the command that starts a Python on it for pytest-xdist. The first
    answer counts, and comes before what the word means to the harness. Raise harness.errors.BadInput for a mistake.
    """
