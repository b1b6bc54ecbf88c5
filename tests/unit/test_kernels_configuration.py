"""What a kernel lacks is read out of its configuration, wherever that is: beside it, in its tree, or within it."""

from __future__ import annotations

import gzip
import lzma
import struct
from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput
from harness.kernels import configuration
from harness.kernels.targets import Ways, meant

if TYPE_CHECKING:
    from pathlib import Path

    from harness.kernels.targets import Target

ENOUGH = {option: "y" for need in configuration.NEEDS for option in need.options}
RELEASE = "4.4.178"


def written(options: dict[str, str]) -> str:
    """A .config."""
    lines = [f"CONFIG_{name}={value}" for name, value in options.items()]
    return "\n".join(["# CONFIG_VT is not set", "CONFIG_HZ=250", *lines, ""])


def bzimage(inside: bytes = b"", pack: str = "gzip") -> bytes:
    """A file that is laid out like a kernel image, with something packed in it."""
    packed = gzip.compress(inside) if pack == "gzip" else lzma.compress(inside)
    head = bytearray(0x600)
    head[0x1F1] = 1
    head[0x202:0x206] = b"HdrS"
    banner = f"{RELEASE} (a@b) #1 SMP\0".encode()
    struct.pack_into("<H", head, 0x20E, 0x100)
    head[0x300 : 0x300 + len(banner)] = banner
    struct.pack_into("<II", head, 0x248, 0x200, len(packed))
    return bytes(head) + packed


def image(directory: Path, content: bytes) -> Path:
    file = directory / "bzImage"
    file.write_bytes(content)
    return file


def carrying(options: dict[str, str]) -> bytes:
    """What the kernel of an image built with CONFIG_IKCONFIG has in it somewhere."""
    return b"\x7fELF code IKCFG_ST" + gzip.compress(written(options).encode()) + b"IKCFG_ED data"


def named(file: Path) -> Target:
    """What --kernel=FILE means."""
    (target,) = meant(
        [str(file)], Ways(lambda: pytest.fail("no archive"), lambda *_: pytest.fail("no host")), fetch=False
    )
    return target


@pytest.mark.parametrize("pack", ["gzip", "xz"])
def test_an_image_carries_its_configuration(tmp_path: Path, pack: str) -> None:
    file = image(tmp_path, bzimage(carrying({"VETH": "m", "NET_NS": "y"}), pack))
    assert configuration.of(file, RELEASE) == {"VETH": "m", "NET_NS": "y"}


def test_without_it_the_configuration_is_not_known(tmp_path: Path) -> None:
    assert configuration.of(image(tmp_path, bzimage(b"\x7fELF nothing")), RELEASE) is None
    assert configuration.of(image(tmp_path, bzimage()[:0x600] + b"packed by nobody"), RELEASE) is None


def test_it_stands_beside_the_image_or_in_the_tree(tmp_path: Path) -> None:
    boot = tmp_path / "arch" / "x86" / "boot"
    boot.mkdir(parents=True)
    file = image(boot, bzimage())
    (tmp_path / ".config").write_text(written({"VETH": "y"}))
    assert configuration.of(file, RELEASE) == {"VETH": "y"}
    (boot / f"config-{RELEASE}").write_text(written({"VETH": "m"}))
    assert configuration.of(file, RELEASE) == {"VETH": "m"}


def test_what_is_built_in_or_at_hand_as_a_module_is_not_lacking() -> None:
    assert configuration.lacking(ENOUGH, ()) == []
    assert configuration.lacking(ENOUGH | {"VETH": "m"}, {"veth"}) == []
    assert configuration.lacking(ENOUGH | {"VETH": "m"}, {"dummy"}) == ["veth (CONFIG_VETH)"]


@pytest.mark.parametrize("option", sorted(ENOUGH))
def test_each_of_them_is_missed(option: str) -> None:
    (lacks,) = configuration.lacking({name: value for name, value in ENOUGH.items() if name != option}, ())
    assert f"(CONFIG_{option})" in lacks


def test_a_kernel_that_lacks_something_is_one_mistake_of_usage(tmp_path: Path) -> None:
    few = {name: value for name, value in ENOUGH.items() if name not in ("VETH", "NF_TABLES")}
    file = image(tmp_path, bzimage(carrying(few)))
    with pytest.raises(BadInput) as raised:
        named(file)
    assert str(raised.value).startswith(
        f"--kernel {file}: kernel {RELEASE} cannot run scenarios: it has no veth (CONFIG_VETH) and no nftables "
        "(CONFIG_NF_TABLES); if these are modules"
    )
    assert named(image(tmp_path, bzimage(carrying(ENOUGH)))).names[0] == RELEASE
