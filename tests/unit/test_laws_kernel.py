"""Kernel versions: from what kernels print to what expectations compare."""

from __future__ import annotations

import os

import pytest

from harness.errors import BadInput
from harness.laws.kernel import KernelVersion, running


@pytest.mark.parametrize(
    ("release", "build", "signature", "version"),
    [
        ("6.18.44-fc-v669", "#1 SMP PREEMPT_DYNAMIC @0", "", (6, 18, 44)),
        ("5.10.0-34-amd64", "#1 SMP Debian 5.10.234-1 (2025-02-24)", "", (5, 10, 234)),
        ("6.12.38+deb13-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.38-1 (2025-07-16)", "", (6, 12, 38)),
        ("7.0-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 7.0~rc5-1~exp1", "", (7, 0, 0)),
        ("6.8.0-45-generic", "#45-Ubuntu SMP", "Ubuntu 6.8.0-45.45-generic 6.8.12\n", (6, 8, 12)),
        ("4.9.0-13-amd64", "#1 SMP Debian 4.9.228-1 (2020-07-05)", "", (4, 9, 228)),
        ("5.14.0-427.el9.x86_64", "#1 SMP PREEMPT_DYNAMIC Wed", "", (5, 14, 0)),
    ],
)
def test_what_kernels_print(release: str, build: str, signature: str, version: tuple[int, int, int]) -> None:
    kernel = KernelVersion.from_uname(release, build, signature)
    assert kernel.release == version
    assert str(kernel) == release


def test_a_release_candidate_counts_as_the_release() -> None:
    kernel = KernelVersion.parse("7.0-rc3")
    assert kernel.candidate == 3
    assert kernel >= "7.0"
    assert not kernel < "7.0"
    assert kernel < "7.0.1"


def test_numbers_compare_as_numbers() -> None:
    assert KernelVersion.parse("5.10") > KernelVersion.parse("5.9.16")
    assert KernelVersion.parse("6.1") == "6.1.0"
    assert KernelVersion.parse("6.1") != "6.1.1"
    assert len({KernelVersion.parse("6.1"), KernelVersion.parse("6.1.0")}) == 1


@pytest.mark.parametrize("text", ["", "new", "6", "bookworm", "-1.2"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="is not a kernel version"):
        KernelVersion.parse(text)


def test_the_running_kernel_is_the_one_that_uname_names() -> None:
    assert str(running()) == os.uname().release
