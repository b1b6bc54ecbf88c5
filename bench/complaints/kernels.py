"""The kernels that complain: how each is configured, and the patch that all of them have."""

from __future__ import annotations

from pathlib import Path

from bench.mutants import patches
from bench.mutants.source import CONFIG, Tree

HERE = Path(__file__).parent
PATCH = HERE / "provoked.patch"
# What each looks for, by the name of its kernel.
KERNELS = ("debug", "kasan", "kcsan")


def build(directory: Path, name: str, jobs: int) -> Path:
    """The image of a kernel, built below `directory` if it is not there."""
    tree = Tree(directory, jobs, options=(CONFIG, HERE / f"{name}.config"), variant=name)
    tree.prepare()
    change, _ = patches.read_change(PATCH)
    return tree.build(change)
