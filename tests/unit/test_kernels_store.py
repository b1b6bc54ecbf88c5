"""Kernel images and modules as files: what they say of themselves, and what is refused."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import struct
import subprocess
from functools import partial
from typing import TYPE_CHECKING

import pytest

from harness import unpacking
from harness.errors import BadInput, MissingProgram
from harness.kernels import modules as module_files
from harness.kernels import places
from harness.kernels.modules import in_order, modinfo
from harness.kernels.store import Store, built

if TYPE_CHECKING:
    from pathlib import Path

BANNER = b"6.12.1-test (me@here) #1 SMP Debian 6.12.1-1 (2026-01-01)\0"


def image(path: Path, banner: bytes = BANNER) -> Path:
    """The beginning of a bzImage: the magic, and where the banner is."""
    head = bytearray(0x400)
    head[0x1F1] = 1  # one sector of setup code after the first
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x20E, 0x100)
    head[0x300 : 0x300 + len(banner)] = banner
    path.write_bytes(head)
    return path


def module(
    directory: Path, name: str, *, depends: str = "", release: str = "6.12.1-test", also: str = "license=GPL"
) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{name}.ko"
    info = f"{also}\0depends={depends}\0name={name}\0vermagic={release} SMP mod_unload \0"
    file.write_bytes(b"\x7fELF\0" + info.encode())
    return file


def test_a_kernel_that_the_user_names(tmp_path: Path) -> None:
    modules = tmp_path / "lib" / "modules"
    module(modules / "kernel" / "net", "nft_ct", depends="nf_tables,nf_conntrack")
    module(modules / "kernel" / "net", "nf_tables", depends="nfnetlink")
    module(modules / "kernel" / "net", "nfnetlink")
    module(modules / "kernel" / "drivers", "floppy")
    kernel = built(image(tmp_path / "bzImage"), modules)
    assert (kernel.release, kernel.version) == ("6.12.1-test", "6.12.1")
    assert set(kernel.modules) == {"nft_ct", "nf_tables", "nfnetlink"}


@pytest.mark.parametrize(
    ("banner", "release", "version"),
    [
        (b"3.16.0-11-amd64 (d@x) (gcc) #1 SMP Debian 3.16.84-1 (2020-06-09)\0", "3.16.0-11-amd64", "3.16.84"),
        (b"4.9.0-19-amd64 (d@x) (gcc) #1 SMP Debian 4.9.320-2 (2022-06-30)\0", "4.9.0-19-amd64", "4.9.320"),
        (b"3.10.108 (me@here) (gcc) #1 SMP\0", "3.10.108", "3.10.108"),
        (b"6.12 (me@here) #1 SMP\0", "6.12", "6.12"),
    ],
)
def test_kernels_of_all_years(tmp_path: Path, banner: bytes, release: str, version: str) -> None:
    kernel = built(image(tmp_path / "bzImage", banner))
    assert (kernel.release, kernel.version, kernel.modules) == (release, version, {})


@pytest.mark.parametrize(
    "banner", [b"6.12.1/../../x (me@here)\0", b"\0", b" \0", b"../x 6.12\0", b"6.12.1\x1b[2J (x)\0", b"9" * 500 + b"\0"]
)
def test_a_release_that_is_no_name_is_refused(tmp_path: Path, banner: bytes) -> None:
    """It names the state of the machine in the cache, and its console: 6.12.1/../../x wrote outside."""
    with pytest.raises(BadInput, match=r"bzImage: the release of this kernel is .*: a name of letters"):
        built(image(tmp_path / "bzImage", banner))


@pytest.mark.parametrize("what", ["pipe", "device", "directory"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, what: str) -> None:
    place = tmp_path / "bzImage"
    match what:
        case "pipe":
            os.mkfifo(place)
        case "device":
            place.symlink_to("/dev/zero")
        case "directory":
            place.mkdir()
    with pytest.raises(BadInput, match=r"bzImage: cannot be read: "):
        built(place)


def bomb(directory: Path, ending: str) -> Path:
    """A module of a gigabyte of zeros, in a hundred and fifty kilobytes or less."""
    file = directory / f"veth.ko{ending}"
    program = {".xz": ["xz", "-0", "-c"], ".gz": ["gzip", "-1", "-c"], ".zst": ["zstd", "-1", "-c", "-q"]}[ending]
    with file.open("wb") as out, subprocess.Popen(program, stdin=subprocess.PIPE, stdout=out) as packing:
        assert packing.stdin is not None
        for _ in range(unpacking.LARGEST_FILE // (1 << 20) + 1):
            packing.stdin.write(bytes(1 << 20))
    return file


@pytest.mark.parametrize("ending", [".xz", ".gz", ".zst"])
def test_a_bomb_among_the_modules_is_one_line(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which({".xz": "xz", ".gz": "gzip", ".zst": "zstd"}[ending]):
        pytest.skip(f"nothing packs {ending} here; on Debian: apt-get install xz-utils gzip zstd")
    monkeypatch.setattr(unpacking, "LARGEST_FILE", 8 << 20)
    monkeypatch.setattr(module_files, "_UNPACK", {
        suffix: partial(unpack, most=8 << 20) for suffix, unpack in module_files._UNPACK.items()
    })  # fmt: skip
    (tmp_path / "modules").mkdir()
    bomb(tmp_path / "modules", ending)
    with pytest.raises(BadInput, match=r"veth\.ko.*: this module cannot be read: more than 8 MB are packed in it"):
        built(image(tmp_path / "bzImage"), tmp_path / "modules")


@pytest.mark.parametrize("content", [b"", b"\xfd7zXZ\0", b"\x1f\x8b", b"no archive"])
@pytest.mark.parametrize("ending", [".xz", ".gz", ".zst"])
def test_a_module_that_is_damaged_is_one_line(tmp_path: Path, ending: str, content: bytes) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / f"veth.ko{ending}").write_bytes(content)
    with pytest.raises((BadInput, MissingProgram), match=r"this module cannot be read|zstd is not installed"):
        built(image(tmp_path / "bzImage"), tmp_path / "modules")


def test_modules_that_need_each_other_come_all_the_same(tmp_path: Path) -> None:
    module(tmp_path / "m", "veth", depends="tun")
    module(tmp_path / "m", "tun", depends="veth", also="softdep=pre: veth\0alias=\xff")
    kernel = built(image(tmp_path / "bzImage"), tmp_path / "m")
    assert {file.stem for file in module_files.in_order(kernel.modules)} == {"veth", "tun"}


@pytest.mark.parametrize("suffix", [".xz", ".gz"])
def test_modules_that_are_compressed_are_unpacked_to_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setenv(places.CACHE, str(tmp_path / "cache"))
    modules = tmp_path / "modules"
    plain = module(modules, "veth")
    content = plain.read_bytes()
    plain.unlink()
    packed = lzma.compress(content) if suffix == ".xz" else gzip.compress(content)
    (modules / f"veth.ko{suffix}").write_bytes(packed)
    kernel = built(image(tmp_path / "bzImage"), modules)
    assert kernel.modules["veth"].read_bytes() == content
    assert kernel.modules["veth"].is_relative_to(tmp_path / "cache")
    # One that was cut off there is unpacked anew.
    kernel.modules["veth"].write_bytes(content[:-1])
    assert built(tmp_path / "bzImage", modules).modules["veth"].read_bytes() == content


def test_modules_of_another_kernel_are_refused(tmp_path: Path) -> None:
    module(tmp_path / "modules", "veth", release="6.12.2")
    with pytest.raises(BadInput, match=r"modules: module veth is for 6.12.2, the kernel .*bzImage is 6.12.1"):
        built(image(tmp_path / "bzImage"), tmp_path / "modules")


def test_modules_come_after_those_they_need(tmp_path: Path) -> None:
    files = {
        "a": module(tmp_path, "a", depends="b,c-d"),
        "b": module(tmp_path, "b", depends="c_d"),
        "c_d": module(tmp_path, "c_d", depends="builtin"),
    }
    assert [file.stem for file in in_order(files)] == ["c_d", "b", "a"]


def test_modules_come_in_the_same_order_wherever_they_were_found(tmp_path: Path) -> None:
    files = {name: module(tmp_path, name, depends="c" if name == "b" else "") for name in "abc"}
    assert [file.stem for file in in_order(files)] == ["a", "c", "b"]
    assert in_order(dict(reversed(files.items()))) == in_order(files)


def test_modules_come_after_those_they_ask_for_by_an_alias(tmp_path: Path) -> None:
    """As libcrc32c does: without a module that does crc32c it is refused, and nf_tables with it."""
    files = {
        "libcrc32c": module(tmp_path, "libcrc32c", also="softdep=pre: crc32c post: other"),
        "zcrc_generic": module(tmp_path, "zcrc_generic", also="alias=crc32c"),
        "nf_tables": module(tmp_path, "nf_tables", depends="libcrc32c", also="softdep=pre: nf_tables"),
    }
    assert [file.stem for file in in_order(files)] == ["zcrc_generic", "libcrc32c", "nf_tables"]


def test_what_a_module_says() -> None:
    found = modinfo(b"\0depends=x,y\0other=1\0vermagic=6.1 SMP\0alias=a\0alias=b\0softdep=pre: c\0")
    assert found == {"depends": ["x,y"], "vermagic": ["6.1 SMP"], "alias": ["a", "b"], "softdep": ["pre: c"]}


def test_an_empty_cache_has_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "none")
    assert store.all() == []
    with pytest.raises(BadInput, match=r"kernel 6.12.1 is not in .*none: harness kernels fetch 6.12.1"):
        store.of_release("6.12.1")


def test_what_a_killed_process_left_is_swept_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(places.CACHE, str(tmp_path))
    left = [
        tmp_path / "states" / ".6.12-x.part",
        tmp_path / "images" / ".harness-x",
        tmp_path / "kernels" / ".fetch-x" / "p",
    ]
    kept = [tmp_path / "states" / "6.12-x", tmp_path / "images" / "x.cpio", tmp_path / "kernels" / "6.12" / "image"]
    for file in (*left, *kept):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    places.sweep()
    assert all(file.exists() for file in (*left, *kept))
    places.sweep(older_than=-1)
    assert [file.exists() for file in (*left, *kept)] == [False] * 3 + [True] * 3
