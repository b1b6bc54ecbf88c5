"""A kernel image for x86 as a file: what it calls itself, whether it is whole, and the kernel within it.

Documentation/arch/x86/boot.rst of the kernel has the fields: the setup code in sectors of 512 bytes, the protected-mode
code after it, and in that the kernel itself, compressed.
"""

from __future__ import annotations

import contextlib
import lzma
import re
import struct
import subprocess
import zlib
from typing import TYPE_CHECKING

from harness.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

SECTOR = 512
HEADER = 0x260
# setup_sects, syssize in paragraphs of 16 bytes, version of the protocol, payload_offset and payload_length.
SETUP_SECTS, SYSSIZE, MAGIC, PROTOCOL, BANNER, PAYLOAD = 0x1F1, 0x1F4, 0x202, 0x206, 0x20E, 0x248
# From this protocol on the header says where the payload is (Linux 2.6.26).
SAYS_ITS_PAYLOAD = 0x208
# scripts/bin2c of the configuration, compressed by gzip (kernel/configs.c).
_EMBEDDED = re.compile(rb"IKCFG_ST(.*?)IKCFG_ED", re.DOTALL)
# How each compression begins (scripts/Makefile.lib); those that Python or zstd(1) can undo.
_GZIP, _XZ, _LZMA, _ZSTD = b"\x1f\x8b", b"\xfd7zXZ", b"\x5d\0\0", b"\x28\xb5\x2f\xfd"


def banner_of(file: Path) -> str:
    """What a kernel image calls itself, "6.12.1 (build@host) #1 SMP …".

    BadInput if it is no x86 kernel image, or shorter than its own header says.
    """
    try:
        with file.open("rb") as opened:
            head = opened.read(HEADER)
            if len(head) < HEADER or head[MAGIC : MAGIC + 4] != b"HdrS":
                elf = "; of a built tree take arch/x86/boot/bzImage" if head.startswith(b"\x7fELF") else ""
                raise BadInput(f"{file}: not a Linux kernel image for x86 (a bzImage or vmlinuz){elf}")
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
        payload(file.read_bytes())
    except (OSError, ValueError) as error:
        return f"{file}: the kernel in this image cannot be unpacked ({error}): build or copy it anew"
    return ""


def payload(image: bytes) -> bytes | None:
    """The kernel within an image, uncompressed; None where it is packed with a program that is not here.

    ValueError if it is damaged.
    """
    offset, length = _payload_at(image)
    packed = image[_setup(image) + offset :][:length]
    try:
        if packed.startswith(_GZIP):
            return _all_of(zlib.decompressobj(zlib.MAX_WBITS | 16), packed)
        if packed.startswith((_XZ, _LZMA)):
            return _all_of(lzma.LZMADecompressor(), packed)
        if packed.startswith(_ZSTD):
            # The last four bytes are its size.
            return subprocess.run(["zstd", "-dcq"], input=packed[:-4], capture_output=True, check=True).stdout
    except (zlib.error, lzma.LZMAError) as error:
        raise ValueError(str(error)) from None
    except subprocess.CalledProcessError as error:
        raise ValueError(error.stderr.decode(errors="replace").strip()) from None
    except FileNotFoundError:
        return None
    return None


def _all_of(decompressor: zlib._Decompress | lzma.LZMADecompressor, packed: bytes) -> bytes:
    content = decompressor.decompress(packed)
    if not decompressor.eof:
        raise ValueError("it ends early")
    return content


def configuration(image: bytes) -> str | None:
    """The .config that an image carries (CONFIG_IKCONFIG); None if it has none, or cannot be looked into."""
    try:
        found = _EMBEDDED.search(payload(image) or b"")
    except ValueError:
        return None
    if found is None:
        return None
    with contextlib.suppress(zlib.error):
        return zlib.decompress(found[1], zlib.MAX_WBITS | 16).decode(errors="replace")
    return None
