"""The kernel as the last parameter of every test, so that its name ends the test's id."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.kernels.targets import KERNEL
from harness.plugin.kernels import kernel_of, plan_of

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.fixture(name=KERNEL)
def harness_kernel(request: pytest.FixtureRequest) -> str:
    """The kernel that the test runs on, by the name in its id."""
    return str(request.param)


def names(config: pytest.Config) -> Sequence[str]:
    """The kernels of this process's tests, by their names: the worker's, with --collect-only all; none without any."""
    own, session = kernel_of(config), plan_of(config)
    return [own] if own is not None else session.names if session is not None else ()


def parametrise(metafunc: pytest.Metafunc) -> None:
    """Give every test the worker's kernel as a parameter; with --collect-only, all the kernels."""
    if kernels := names(metafunc.config):
        metafunc.fixturenames.append(KERNEL)
        metafunc.parametrize(KERNEL, kernels, ids=kernels, indirect=True)


def without_kernel(nodeid: str, kernel: str) -> str:
    """The id that the test would have without kernels."""
    for end in (f"-{kernel}]", f"[{kernel}]"):
        if nodeid.endswith(end):
            return nodeid.removesuffix(end) + ("]" if end[0] == "-" else "")
    return nodeid


def same_test(nodeid: str, kernel: str, other: str) -> str:
    """The id of the same test on another kernel; the same id if the test is not one of the first."""
    before = nodeid.removesuffix(f"{kernel}]")
    return f"{before}{other}]" if before != nodeid and before.endswith(("[", "-")) else nodeid
