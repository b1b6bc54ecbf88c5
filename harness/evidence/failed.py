"""What the hosts of a lab saw until a test failed that has no claim: a file for each such test, beside the evidence."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import msgspec

from harness.errors import BadInput
from harness.evidence.codec import write_whole
from harness.evidence.types import Kernel, Knob, Moved, SocketTable

if TYPE_CHECKING:
    from pathlib import Path

# Where they are, below the directory of the evidence.
FOLDER = "failed"
LONGEST_NAME = 150


class FailedTest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A test without a claim that failed with its lab up.

    `failure` is what pytest says of it in a line. Counters are by host, as far as they moved since the test's own code
    began; sockets and knobs are those at the failure. `packets` names the pcapng file beside this one: of each host its
    first packets; `packets_missed` are those that came later.
    """

    nodeid: str
    kernel: Kernel
    failure: str
    kernel_name: str = ""
    knobs: dict[str, dict[str, Knob]] = {}
    counters: dict[str, dict[str, Moved]] = {}
    sockets: dict[str, SocketTable] = {}
    packets: str = ""
    packets_missed: int = 0


_decoder = msgspec.json.Decoder(FailedTest)


def stem_of(nodeid: str) -> str:
    """The name of a test's files without their endings; no evidence of a claim has such a name."""
    plain = re.sub(r"[^\w.-]+", "-", nodeid.replace("::", "__")).strip("-")
    name = plain if "__" in plain else f"__{plain}"
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}-{hashlib.sha256(nodeid.encode()).hexdigest()[:8]}"


def encode(test: FailedTest) -> str:
    """As it travels on a report."""
    return msgspec.json.encode(test).decode()


def decode(text: str | bytes) -> FailedTest:
    """What encode() made, or a file that keep() wrote. BadInput if it is neither."""
    try:
        return _decoder.decode(text)
    except msgspec.MsgspecError as error:
        raise BadInput(f"a failed test cannot be read: {error}") from None


def keep(directory: Path, test: FailedTest, packets: bytes | None) -> None:
    """Write a test's files below a directory of evidence, in place of earlier ones. BadInput if they cannot be."""
    stem, folder = stem_of(test.nodeid), directory / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if packets is not None:
            test = msgspec.structs.replace(test, packets=f"{stem}.pcapng")
            write_whole(folder / test.packets, packets)
        write_whole(folder / f"{stem}.json", msgspec.json.format(msgspec.json.encode(test), indent=1) + b"\n")
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error.strerror}; see --evidence") from None


def forget(directory: Path, nodeid: str) -> None:
    """Remove what an earlier run kept of a test that has passed now."""
    for ending in (".json", ".pcapng"):
        (directory / FOLDER / f"{stem_of(nodeid)}{ending}").unlink(missing_ok=True)
