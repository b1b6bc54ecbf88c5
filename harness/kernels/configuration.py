"""How a kernel was configured, and what it lacks that a guest and its labs are made of: known before it is booted.

The configuration is found beside the image (config-RELEASE, as /boot has it), in the tree that the image was built in
(.config), or within the image, if that was built with CONFIG_IKCONFIG. Where it is nowhere, the guest says itself what
its kernel lacks, when it has booted.
"""

from __future__ import annotations

import contextlib
import lzma
import re
import struct
import subprocess
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

BUILT_IN, MODULE = "y", "m"
_SET = re.compile(r"^CONFIG_(\w+)=([ym])$", re.MULTILINE)
# scripts/bin2c of the configuration, compressed by gzip (kernel/configs.c).
_EMBEDDED = re.compile(rb"IKCFG_ST(.*?)IKCFG_ED", re.DOTALL)


@dataclass(frozen=True)
class Need:
    """Something that must be there: in words, and any of these options, each with the module that brings it."""

    what: str
    options: Mapping[str, str]


# Without one of these no scenario runs.
NEEDS = (
    Need("first file system in memory", {"BLK_DEV_INITRD": ""}),
    Need("way to run programs", {"BINFMT_ELF": ""}),
    Need("way to run scripts", {"BINFMT_SCRIPT": ""}),
    Need("/proc", {"PROC_FS": ""}),
    Need("/sys", {"SYSFS": ""}),
    Need("/dev", {"DEVTMPFS": ""}),
    Need("tmpfs", {"TMPFS": ""}),
    Need("futex", {"FUTEX": ""}),
    Need("epoll", {"EPOLL": ""}),
    Need("PCI for virtio", {"VIRTIO_PCI": "virtio_pci"}),
    Need("port to the outside", {"VIRTIO_CONSOLE": "virtio_console"}),
    Need("network namespaces", {"NET_NS": ""}),
    Need("packet sockets", {"PACKET": "af_packet"}),
    Need("listing of TCP sockets", {"INET_TCP_DIAG": "tcp_diag"}),
    Need("veth", {"VETH": "veth"}),
    Need("nftables", {"NF_TABLES": "nf_tables"}),
    # A module of its own until 4.17 (02c7b25e5f54, "netfilter: nf_tables: build-in filter chain type").
    Need("nftables for both families", {"NF_TABLES_INET": "nf_tables_inet"}),
)


def of(image: Path, release: str) -> dict[str, str] | None:
    """The options of an image that are set, y or m, by name without CONFIG_; None where they are not to be found."""
    for file in _files(image, release):
        with contextlib.suppress(OSError):
            return parse(file.read_text(encoding="utf-8", errors="replace"))
    text = embedded(image.read_bytes())
    return None if text is None else parse(text)


def parse(text: str) -> dict[str, str]:
    """The options of a .config that are set."""
    return dict(_SET.findall(text))


def lacking(options: Mapping[str, str], modules: Collection[str]) -> list[str]:
    """What is needed and is neither built in nor among the modules: "veth (CONFIG_VETH)"."""
    return [
        f"{need.what} ({', '.join(f'CONFIG_{option}' for option in need.options)})"
        for need in NEEDS
        if not any(_is_there(options.get(option), module, modules) for option, module in need.options.items())
    ]


def _is_there(value: str | None, module: str, modules: Collection[str]) -> bool:
    """Whether an option is built in, or its module is at hand."""
    return value == BUILT_IN or (value == MODULE and module in modules)


def _files(image: Path, release: str) -> Iterator[Path]:
    yield image.with_name(f"config-{release}")
    if image.parts[-4:-1] == ("arch", "x86", "boot"):
        yield image.parents[3] / ".config"


def embedded(image: bytes) -> str | None:
    """The configuration that a bzImage carries; None if it has none, or is compressed by a program that is not here."""
    found = _EMBEDDED.search(payload(image) or b"")
    if found is None:
        return None
    with contextlib.suppress(zlib.error):
        return zlib.decompress(found[1], zlib.MAX_WBITS | 16).decode(errors="replace")
    return None


def payload(image: bytes) -> bytes | None:
    """The kernel within a bzImage, uncompressed (Documentation/arch/x86/boot.rst: payload_offset, payload_length)."""
    sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    packed = image[start : start + length]
    with contextlib.suppress(zlib.error, lzma.LZMAError, OSError, subprocess.CalledProcessError):
        if packed.startswith(b"\x1f\x8b"):
            return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(packed)
        if packed.startswith((b"\xfd7zXZ", b"\x5d\0\0")):
            return lzma.LZMADecompressor().decompress(packed)
        if packed.startswith(b"\x28\xb5\x2f\xfd"):
            # The last four bytes are its size.
            return subprocess.run(["zstd", "-dc"], input=packed[:-4], capture_output=True, check=True).stdout
    return None
