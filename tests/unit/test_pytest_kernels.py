"""What pytest's options mean for several kernels, without a machine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from harness.kernels.targets import KERNEL
from harness.plugin.kernels import KERNELS
from harness.plugin.memory import REMEMBERED, failed_elsewhere, remember

if TYPE_CHECKING:
    from pathlib import Path


def worker(failed: list[str], *, lf: bool = True, kernel: str | None = "7.3.4") -> Any:
    """The configuration of a worker that is told what failed."""
    told = {
        KERNEL: kernel,
        KERNELS: ["5.10.262", "7.3.4"],
        REMEMBERED: {"cache/lastfailed": dict.fromkeys(failed, True)},
    }
    return SimpleNamespace(workerinput=told, getoption=lambda *_: lf)


def items(*ids: str) -> list[Any]:
    return [SimpleNamespace(nodeid=one) for one in ids]


@pytest.mark.parametrize(
    ("failed", "elsewhere"),
    [
        ([], False),
        (["t.py::a[ipv4-5.10.262]"], True),
        (["t.py::b[5.10.262]"], True),
        (["t.py::a[ipv4-5.10.262]", "t.py::a[ipv4-7.3.4]"], False),
        # Failures of tests that are not chosen, or on kernels that are not: pytest runs all.
        (["t.py::other[ipv4-5.10.262]"], False),
        (["t.py::a[ipv4-6.1.192]"], False),
        (["t.py::a[ipv4]"], False),
    ],
)
def test_what_failed_on_other_kernels_only(failed: list[str], elsewhere: bool) -> None:
    chosen = items("t.py::a[ipv4-7.3.4]", "t.py::b[7.3.4]")
    assert failed_elsewhere(worker(failed), chosen) is elsewhere
    assert not failed_elsewhere(worker(failed, lf=False), chosen)
    assert not failed_elsewhere(worker(failed, kernel=None), chosen)


def test_a_guest_remembers_what_the_machine_does(tmp_path: Path) -> None:
    config: Any = worker(["t.py::a[7.3.4]"])
    config.rootpath = tmp_path
    config.getini = lambda _: ".pytest_cache"
    remember(config)
    written = tmp_path / ".pytest_cache" / "v" / "cache" / "lastfailed"
    assert written.read_text() == '{"t.py::a[7.3.4]": true}'
