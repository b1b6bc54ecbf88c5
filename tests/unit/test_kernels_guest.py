"""What the first process of a guest does that can be seen without a guest."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

from harness.kernels import guest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in place of the sysctl that says how often the pool behind getrandom(2) is filled."""
    file = tmp_path / "urandom_min_reseed_secs"
    file.write_text("60\n")
    monkeypatch.setattr(guest, "DRAW_EVERY", str(file))
    return file


@pytest.fixture
def opened(seconds: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The files that are opened, each with the seconds at that moment."""
    seen: list[tuple[str, str]] = []

    def watched(name: str, *words: Any, **others: Any) -> Any:
        seen.append((name, seconds.read_text()))
        return open(name, *words, **others)  # noqa: PTH123 - the guest opens it so

    monkeypatch.setattr(guest, "open", watched, raising=False)
    return seen


def test_the_pool_is_read_while_it_is_filled_at_each_read(seconds: Path, opened: list[tuple[str, str]]) -> None:
    guest.draw_from_added()
    assert opened == [(str(seconds), "60\n"), ("/dev/urandom", "00\n")]
    assert int("00\n") == 0
    assert seconds.read_text() == "60\n"


def test_a_seed_is_added_before_the_pool_is_read(
    opened: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    added: list[bytes] = []

    def ioctl(_: object, request: int, content: bytes = b"") -> None:
        added.append(content if request == guest.RNDADDENTROPY else b"reseed")
        assert [name for name, _ in opened] == ["/dev/urandom"]
        if request == guest.RNDRESEEDCRNG:
            raise OSError(22, "a kernel before 4.17 does not know it")

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    guest.reseed(bytes(guest.SEED))
    assert [name for name, _ in opened][1:] == [guest.DRAW_EVERY, "/dev/urandom"]
    assert added == [struct.pack("ii", guest.SEED * 8, guest.SEED) + bytes(guest.SEED), b"reseed"]


def test_three_quarters_of_a_seed_fill_the_pool_and_what_the_kernel_keeps() -> None:
    """credit_entropy_bits() of 4.1: at most 3/4 count; _xfer_secondary_pool() leaves 16 bytes and takes 8 at least."""
    assert guest.SEED * 3 // 4 >= guest.POOL + 16
    assert guest.SEED <= 1000
