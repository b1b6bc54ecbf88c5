"""A kernel image for x86 as a file: what it calls itself, whether it is whole, and the kernel within it.

Documentation/arch/x86/boot.rst of the kernel has the fields: the setup code in sectors of 512 bytes, the protected-mode
code after it, and in that the kernel itself, compressed.
"""

from __future__ import annotations

import contextlib
import re
import struct
from typing import TYPE_CHECKING

from harness import files, unpacking
from harness.errors import BadInput, MissingProgram

if TYPE_CHECKING:
    from pathlib import Path

SECTOR = 512
# Of an image, and of the configuration in it; in bytes.
LARGEST, LARGEST_CONFIGURATION = 512 << 20, 16 << 20
HEADER = 0x260
# setup_sects, syssize in paragraphs of 16 bytes, version of the protocol, payload_offset and payload_length.
SETUP_SECTS, SYSSIZE, MAGIC, PROTOCOL, BANNER, PAYLOAD = 0x1F1, 0x1F4, 0x202, 0x206, 0x20E, 0x248
# From this protocol on the header says where the payload is (Linux 2.6.26).
SAYS_ITS_PAYLOAD = 0x208
# scripts/bin2c of the configuration, compressed by gzip (kernel/configs.c).
_EMBEDDED = re.compile(rb"IKCFG_ST(.*?)IKCFG_ED", re.DOTALL)
# How each compression begins (scripts/Makefile.lib); those that Python or zstd(1) can undo.
_GZIP, _XZ, _LZMA, _ZSTD = b"\x1f\x8b", b"\xfd7zXZ", b"\x5d\0\0", b"\x28\xb5\x2f\xfd"


class NotAnImage(BadInput):
    """A file is something else than a kernel image."""


def banner_of(file: Path) -> str:
    """What a kernel image calls itself, "6.12.1 (build@host) #1 SMP …".

    NotAnImage if it is no x86 kernel image, BadInput if it is shorter than its own header says.
    """
    try:
        with files.opened(file) as opened:
            head = opened.read(HEADER)
            if len(head) < HEADER or head[MAGIC : MAGIC + 4] != b"HdrS":
                elf = "; of a built tree take arch/x86/boot/bzImage" if head.startswith(b"\x7fELF") else ""
                raise NotAnImage(f"{file}: not a Linux kernel image for x86 (a bzImage or vmlinuz){elf}")
            if missing := size_of(head) - opened.seek(0, 2):
                _refuse_shorter(file, size_of(head), missing)
            opened.seek(struct.unpack_from("<H", head, BANNER)[0] + 0x200)
            return opened.read(512).partition(b"\0")[0].decode("ascii", "replace")
    except OSError as error:
        raise BadInput(f"{file}: cannot be read: {error.strerror}") from None


def _refuse_shorter(file: Path, size: int, missing: int) -> None:
    if missing > 0:
        raise BadInput(
            f"{file}: a kernel image that is cut off: its header says {size} bytes or more, {missing} of them are "
            "missing; was the build or the copy interrupted?"
        )


def size_of(head: bytes) -> int:
    """How many bytes an image has at least, by its first ones: setup, protected-mode code, and payload within that.

    What comes after (a signature, a checksum) is not counted.
    """
    setup = _setup(head)
    paragraphs: int = struct.unpack_from("<I", head, SYSSIZE)[0]
    offset, length = _payload_at(head)
    return setup + max(paragraphs * 16, offset + length)


def _setup(head: bytes) -> int:
    """The size of the boot sector and the setup code in bytes; 0 sectors mean 4."""
    return ((head[SETUP_SECTS] or 4) + 1) * SECTOR


def _payload_at(head: bytes) -> tuple[int, int]:
    """Where the payload is in the protected-mode code, and its length; zeros where the header does not say."""
    (protocol,) = struct.unpack_from("<H", head, PROTOCOL)
    offset, length = struct.unpack_from("<II", head, PAYLOAD)
    return (offset, length) if protocol >= SAYS_ITS_PAYLOAD else (0, 0)


def damage(file: Path) -> str:
    """What is wrong with the kernel within an image, which its header does not tell; "" where nothing is known."""
    try:
        payload(files.content(file, LARGEST))
    except (OSError, ValueError) as error:
        return f"{file}: the kernel in this image cannot be unpacked ({error}): build or copy it anew"
    return ""


def payload(image: bytes) -> bytes | None:
    """The kernel within an image, uncompressed; None where it is packed with a program that is not here.

    ValueError if it is damaged.
    """
    if len(image) < HEADER:
        raise ValueError("it is shorter than its header")
    offset, length = _payload_at(image)
    packed = image[_setup(image) + offset :][:length]
    try:
        if packed.startswith(_GZIP):
            return unpacking.gunzipped(packed)
        if packed.startswith((_XZ, _LZMA)):
            return unpacking.unxzed(packed)
        if packed.startswith(_ZSTD):
            return unpacking.unzstded(packed[:-4])  # the last four bytes are its size
    except MissingProgram:
        return None
    return None


def configuration(image: bytes) -> str | None:
    """The .config that an image carries (CONFIG_IKCONFIG); None if it has none, or cannot be looked into."""
    with contextlib.suppress(ValueError):
        found = _EMBEDDED.search(payload(image) or b"")
        return unpacking.gunzipped(found[1], LARGEST_CONFIGURATION).decode(errors="replace") if found else None
    return None
