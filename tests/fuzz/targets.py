"""Parsers of bytes that others hand over, and what each may be handed to begin with."""

from __future__ import annotations

import contextlib
import lzma
import struct
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

INCIDENTS = Path(__file__).parents[1] / "unit" / "incident_files"


class Target(NamedTuple):
    """`run` takes bytes, and raises nothing but what is a defect; `seeds` are what it is meant for."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]


def packets(data: bytes) -> None:
    """A frame as a packet socket has it."""
    from harness.observe.segments import parse

    for ethernet in (True, False):
        segment = parse(data, ethernet=ethernet, time=1.0, direction="in", interface="e")
        if segment is not None:
            segment.line(since=0.0, seq_base=0, ack_base=0)


def captures(data: bytes) -> None:
    """A file beside the evidence, and what the report makes of it."""
    from harness.observe.pcapng import read_pcapng
    from harness.report.sightings import exchanges

    with contextlib.suppress(HarnessError):
        exchanges(read_pcapng(data).packets, ())


def netlink(data: bytes) -> None:
    """What a kernel answers: it may be another than ours."""
    from harness.lab import netlink as read

    for _, _, body in read.messages(data):
        for _, value in read.walk(body):
            read.attributes(value)


def images(data: bytes) -> None:
    """A file that is called a kernel."""
    from harness.kernels import bzimage, store

    with _file(data) as file:
        with contextlib.suppress(HarnessError):
            store.built(file)
        bzimage.damage(file)
        with contextlib.suppress(ValueError):
            bzimage.configuration(data)


def modules(data: bytes) -> None:
    """A file that is called a module, packed or not."""
    from harness.kernels import modules as read

    kind, content = data[:1], data[1:]
    with _file(content, {b"x": ".ko.xz", b"g": ".ko.gz"}.get(kind, ".ko")) as file:
        with contextlib.suppress(HarnessError):
            unpacked = read.content_of(file)
            read.modinfo(unpacked)
            if file.suffix == ".ko":
                read.in_order({"veth": file})


def indices(data: bytes) -> None:
    """An archive's list of packages, which its key has signed, and which may be odd all the same."""
    from harness.kernels import indices as read
    from harness.kernels.catalogue import kernels_of

    kind, content = data[:1], data[1:]
    suffix = {b"x": ".xz", b"g": ".gz", b"b": ".bz2"}.get(kind, "")
    with _file(content) as file, contextlib.suppress(HarnessError):
        found = read._packages(suffix, file, read.Source("http://x/debian", "sid"))
        kernels_of(each for each in found if isinstance(each, read.Package))


def operators_files(data: bytes) -> None:
    """Whatever an operator takes for something of his machine."""
    from harness.diagnosis.diagnose import diagnose
    from harness.incident.read import read

    with _file(data) as file, contextlib.suppress(HarnessError):
        diagnose(read([file]))


def printed_tests(data: bytes) -> None:
    """What a test program of the kernel prints."""
    from harness.observe.ktap import read

    read(data.decode(errors="replace"))


@contextlib.contextmanager
def _file(data: bytes, suffix: str = "") -> Iterator[Path]:
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        file.write(data)
        file.flush()
        yield Path(file.name)


# What they begin with.

FRAME = bytes.fromhex(
    "020000000002020000000001080045000034000140004006f96cc0000201c0000202"
    "c350005000000001000000018010ffff00000000010108080000000100000002"
)


def _captures() -> Iterable[bytes]:
    from harness.observe.packet import Packet
    from harness.observe.pcapng import pcapng

    class Host:
        name = "server"

    class Capture:
        host = Host()

        def packets(self) -> list[Packet]:
            return [Packet(n, "in" if n % 2 else "out", "e0", len(FRAME), FRAME, True) for n in range(3)]

    yield pcapng([Capture()])


def _netlink() -> Iterable[bytes]:
    from harness.lab import netlink as made

    yield made.message(20, 2, 1, made.nested(1, made.text(2, "x"), made.number(3, 4)))


def _images() -> Iterable[bytes]:
    head = bytearray(0x400)
    head[0x1F1] = 1
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, 0x20C)
    struct.pack_into("<H", head, 0x20E, 0x100)
    head[0x300:0x330] = b"6.12.1-test (me@here) #1 SMP Debian 6.12.1-1\0".ljust(0x30, b"\0")
    yield bytes(head)
    config = b"IKCFG_ST" + zlib.compress(b"CONFIG_VETH=m\n", wbits=31) + b"IKCFG_ED"
    for packed in (zlib.compress(config, wbits=31), lzma.compress(config)):
        struct.pack_into("<II", head, 0x248, 0, len(packed))
        yield bytes(head) + packed


def _modules() -> Iterable[bytes]:
    module = b"\x7fELF\0license=GPL\0depends=tun,nf_tables\0name=veth\0softdep=pre: x\0vermagic=6.12.1 SMP \0"
    yield b"-" + module
    yield b"x" + lzma.compress(module)
    yield b"g" + zlib.compress(module, wbits=31)


def _indices() -> Iterable[bytes]:
    text = (
        b"Package: linux-image-6.12.1+deb13-amd64\nVersion: 6.12.1-1\nDepends: kmod, linux-modules-6.12.1+deb13-amd64\n"
        b"Filename: pool/main/l/linux/x.deb\nSize: 1\nSHA256: 00\n\nPackage: linux-modules-6.12.1+deb13-amd64\n"
        b"Version: 6.12.1-1\nFilename: pool/y.deb\nSize: 2\nSHA256: 11\n"
    )
    yield b"-" + text
    yield b"x" + lzma.compress(text)


def _operators_files() -> Iterable[bytes]:
    yield from (file.read_bytes()[:20_000] for file in sorted(INCIDENTS.rglob("*")) if file.is_file())
    yield from _captures()


TARGETS = {
    "packets": Target(packets, lambda: [FRAME, FRAME[14:]]),
    "captures": Target(captures, _captures),
    "netlink": Target(netlink, _netlink),
    "images": Target(images, _images),
    "modules": Target(modules, _modules),
    "indices": Target(indices, _indices),
    "operators-files": Target(operators_files, _operators_files),
    "printed-tests": Target(printed_tests, lambda: [b"KTAP version 1\n1..1\n  1..1\n  ok 1 a # SKIP b\nok 1 c\n# d\n"]),
}
