"""A failed test that has no claim: what was said, and what the hosts of its lab saw; a file beside the evidence."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import msgspec

from harness import files
from harness.errors import BadInput
from harness.evidence.types import Kernel, Knob, Moved, SocketTable, bare

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

# Where they are, below the directory of the evidence.
FOLDER = "failed"
LONGEST_NAME = 150
# So much of what pytest shows of a failure is kept, in characters.
LONGEST_TEXT = 30_000


class FailedTest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A test without a claim that failed with its lab up; or any test that the kernel complained of when it was over.

    `failure` is what pytest says of it in a line, `text` all that it shows of it. Counters are by host, as far as they
    moved since the test's own code began; sockets and knobs are those at the failure. `packets` names the pcapng file
    beside this one: of each host its first packets; `packets_missed` are those that came later.
    """

    nodeid: str
    kernel: Kernel
    failure: str
    kernel_name: str = ""
    text: str = ""
    knobs: dict[str, dict[str, Knob]] = {}
    counters: dict[str, dict[str, Moved]] = {}
    sockets: dict[str, SocketTable] = {}
    packets: str = ""
    packets_missed: int = 0

    @property
    def has_lab(self) -> bool:
        """Whether hosts were looked at."""
        return bool(self.counters or self.sockets or self.knobs or self.packets)

    @property
    def test(self) -> str:
        """The test with its parameters, without the kernel."""
        return bare(self.nodeid, self.kernel_name)


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
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadInput(f"a failed test cannot be read: {error}") from None


def read_all(directory: Path, nodeids: Collection[str] | None = None) -> tuple[list[FailedTest], list[str]]:
    """What is kept below a directory of evidence, of these tests alone if they are given; and what cannot be read."""
    tests, notices = [], []
    for path in sorted((directory / FOLDER).glob("*.json")):
        try:
            test = decode(files.content(path))
        except (BadInput, OSError) as error:
            notices.append(f"{FOLDER}/{path.name}: left out: {error}")
        else:
            if nodeids is None or test.nodeid in nodeids:
                tests.append(test)
    return tests, notices


def legible(text: str) -> str:
    """What pytest shows of a failure as JSON can hold it, cut where it is very long."""
    return text.encode(errors="backslashreplace").decode()[:LONGEST_TEXT]


def with_more(test: FailedTest, text: str) -> FailedTest:
    """A test that is kept, and what was said of it when it was over."""
    return msgspec.structs.replace(test, text="\n".join(filter(None, (test.text, text)))[:LONGEST_TEXT])


def keep(directory: Path, test: FailedTest, packets: bytes | None) -> FailedTest:
    """Write a test's files below a directory of evidence, in place of earlier ones; the test as it is kept.

    BadInput if they cannot be written.
    """
    stem, folder = stem_of(test.nodeid), directory / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if packets is not None:
            test = msgspec.structs.replace(test, packets=f"{stem}.pcapng")
            files.write(folder / test.packets, packets)
        files.write(folder / f"{stem}.json", msgspec.json.format(msgspec.json.encode(test), indent=1) + b"\n")
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error.strerror}; see --tcp-evidence") from None
    return test


def forget(directory: Path, nodeid: str) -> None:
    """Remove what an earlier run kept of a test that has passed now."""
    for ending in (".json", ".pcapng"):
        (directory / FOLDER / f"{stem_of(nodeid)}{ending}").unlink(missing_ok=True)
