"""Kernel images as files: what they say of themselves, and whether all of them is there."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput
from harness.kernels.bzimage import banner_of, configuration, damage, payload
from tests.unit.test_kernels_configuration import bzimage, carrying
from tests.unit.test_kernels_store import BANNER, image

if TYPE_CHECKING:
    from pathlib import Path


def test_an_image_says_what_it_is(tmp_path: Path) -> None:
    assert banner_of(image(tmp_path / "bzImage")) == BANNER.rstrip(b"\0").decode()


@pytest.mark.parametrize("content", [b"", b"MZ" + bytes(0x300), b"#!/bin/sh\n" * 100])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(BadInput, match=r"file: not a Linux kernel image for x86 \(a bzImage or vmlinuz\)"):
        banner_of(tmp_path / "file")


def test_an_image_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none: cannot be read: No such file"):
        banner_of(tmp_path / "none")


@pytest.mark.parametrize("left", [0x600, -1])
def test_an_image_that_is_cut_off_is_called_so(tmp_path: Path, left: int) -> None:
    whole = bzimage(carrying({"VETH": "y"}))
    file = tmp_path / "bzImage"
    file.write_bytes(whole[:left])
    missing = len(whole) - len(whole[:left])
    wanted = rf"bzImage: a kernel image that is cut off: its header says {len(whole)} bytes or more, {missing} of them"
    with pytest.raises(BadInput, match=wanted):
        banner_of(file)
    # With a signature behind it, or whatever else.
    file.write_bytes(whole + bytes(1472))
    assert banner_of(file).startswith("4.4.178 ")


def test_the_size_of_the_code_counts_where_the_header_says_no_more(tmp_path: Path) -> None:
    """syssize alone, in paragraphs: kernels of before 2.6.26 do not say where their payload is."""
    file = image(tmp_path / "bzImage")
    content = bytearray(file.read_bytes())
    struct.pack_into("<I", content, 0x1F4, 4)
    file.write_bytes(content + bytes(63))
    with pytest.raises(BadInput, match="1 of them are missing"):
        banner_of(file)
    file.write_bytes(content + bytes(64))
    assert banner_of(file)


@pytest.mark.parametrize("pack", ["gzip", "xz"])
def test_a_damaged_kernel_within_an_image_is_found(tmp_path: Path, pack: str) -> None:
    whole = bzimage(carrying({"VETH": "y"}), pack)
    file = tmp_path / "bzImage"
    file.write_bytes(whole)
    assert damage(file) == ""
    assert configuration(whole)
    broken = bytearray(whole)
    broken[-30] ^= 0xFF
    file.write_bytes(broken)
    assert damage(file).startswith(f"{file}: the kernel in this image cannot be unpacked (")
    assert configuration(bytes(broken)) is None


def test_what_is_packed_by_an_unknown_program_is_not_called_damaged(tmp_path: Path) -> None:
    unknown = bzimage()[:0x600] + b"\x02\x21\x4c\x18 by lz4" + bytes(64)
    (tmp_path / "bzImage").write_bytes(unknown)
    assert payload(unknown) is None
    assert damage(tmp_path / "bzImage") == ""
