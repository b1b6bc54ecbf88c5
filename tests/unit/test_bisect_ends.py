"""`harness bisect --from A --to B`: kernels of the archive, images and trees, and what lies between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.cli.bisect import _between
from harness.errors import BadInput
from harness.kernels.catalogue import Kernel, choose
from tests.unit.test_kernels_store import image

if TYPE_CHECKING:
    from pathlib import Path

KERNELS = [
    Kernel(f"{version}-amd64", version, "sid", ()) for version in ("5.10.1", "6.1.2", "6.1.9", "6.12.3", "7.3.4")
]


class Selected:
    """An archive that has these kernels."""

    def all(self) -> list[Kernel]:
        return KERNELS

    def choose(self, words: list[str]) -> list[Kernel]:
        return choose(words, KERNELS)


SELECTION: Any = Selected()


def names(first: str, last: str, *, every: bool = False) -> list[str]:
    return [step.name for step in _between(first, last, SELECTION, every=every)]


def test_between_kernels_of_the_archive_lie_others() -> None:
    assert names("5.10", "7.3") == ["5.10.1-amd64", "6.1.9-amd64", "6.12.3-amd64", "7.3.4-amd64"]
    assert names("7.3", "5.10") == names("5.10", "7.3")
    assert names("5.10", "6.1", every=True) == ["5.10.1-amd64", "6.1.2-amd64", "6.1.9-amd64"]


def test_between_two_images_lies_nothing(tmp_path: Path) -> None:
    """And the user's order is kept: what is older is no question of versions there."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        image(tmp_path / name / "bzImage", b"6.12.1-test (me@here) #1\0")
    steps = _between(f"{tmp_path}/b/bzImage", f"{tmp_path}/a/bzImage", SELECTION, every=True)
    assert [step.word for step in steps] == [f"{tmp_path}/b/bzImage", f"{tmp_path}/a/bzImage"]
    assert len({step.name for step in steps}) == 2


def test_between_an_image_and_the_archive_lie_kernels_by_their_versions(tmp_path: Path) -> None:
    file = image(tmp_path / "bzImage", b"6.11.0-rc3+ (me@here) #1\0")
    assert names("5.10", str(file)) == ["5.10.1-amd64", "6.1.9-amd64", "6.11.0-rc3+"]
    assert names(str(file), "7.3") == ["6.11.0-rc3+", "6.12.3-amd64", "7.3.4-amd64"]


def test_one_image_named_twice_is_one(tmp_path: Path) -> None:
    file = image(tmp_path / "bzImage", b"6.12.1-test (me@here) #1\0")
    assert names(str(file), str(file)) == ["6.12.1-test"]


def test_a_kernel_that_cannot_be_placed_is_refused() -> None:
    with pytest.raises(BadInput, match="take kernels of the archive, images and trees"):
        names("5.10", "running")
