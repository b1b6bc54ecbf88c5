"""What pytest remembers of earlier runs (--lf, --ff, --nf), where its cache is not: in machines with other kernels."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.plugin.kernels import KERNELS, is_elsewhere, kernel_of, plan_of
from harness.plugin.parameter import same_test

if TYPE_CHECKING:
    import pytest
    from xdist.workermanage import WorkerController

# What a worker is told, and what of pytest's cache that is: what decides which tests are run, and in which order.
REMEMBERED = "harness_remembered"
REMEMBERS = ("cache/lastfailed", "cache/nodeids")


def tell_worker(node: WorkerController) -> None:
    """Tell a worker of a kernel what pytest remembers."""
    if plan_of(node.config) is not None:
        cache = getattr(node.config, "cache", None)
        node.workerinput[REMEMBERED] = {} if cache is None else {name: cache.get(name, None) for name in REMEMBERS}


def remember(config: pytest.Config) -> None:
    """In a guest: have pytest's cache say what it says outside, before pytest reads it."""
    if not is_elsewhere(config):
        return
    remembered: dict[str, object] = getattr(config, "workerinput", {}).get(REMEMBERED, {})
    if not remembered:  # nor is there a setting of where it would be
        return
    place = Path(config.rootpath, os.path.expandvars(config.getini("cache_dir"))).expanduser()
    for name, value in remembered.items():
        if value:
            file = place / "v" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(value))


def failed_elsewhere(config: pytest.Config, items: list[pytest.Item]) -> bool:
    """With --lf, whether of these tests some failed, but on other kernels of this run only.

    pytest knows nothing of kernels, and where nothing failed it runs everything.
    """
    own = kernel_of(config)
    given: Any = getattr(config, "workerinput", {})
    if own is None or REMEMBERED not in given or not config.getoption("lf", False):
        return False
    failed = given[REMEMBERED].get("cache/lastfailed") or {}
    here = {item.nodeid for item in items}
    if here & set(failed):
        return False
    there = {same_test(nodeid, other, own) for nodeid in failed for other in given[KERNELS] if other != own}
    return bool(here & there)


def choose(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run nothing here if what failed did so on other kernels."""
    if failed_elsewhere(config, items):
        config.hook.pytest_deselected(items=items[:])
        items.clear()
