"""What the kernel logged between two moments."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import Forbidden, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

# Documentation/ABI/testing/dev-kmsg: one record for each read; a reader's buffer of less is refused.
DEVICE = "/dev/kmsg"
RECORD_SIZE = 8192


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the kernel log: `level` 0 (emergency) to 7 (debug), `time` in seconds since boot."""

    sequence: int
    time: float
    level: int
    text: str

    def __str__(self) -> str:
        return f"[{self.time:12.6f}] {self.text}"


class KernelLog:
    """What the kernel has logged since the `with` began; what it logs after the end is left out.

    The log is the machine's, not a host's: other labs' messages stand in it, too. Some messages come once
    for each socket (`Possible SYN flooding on port`), most of TCP's are rate limited (net_ratelimit()).
    """

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._records: list[Record] = []
        self.lost = 0
        """Records that the kernel overwrote before they were read: each gap counts once."""

    def records(self) -> list[Record]:
        """All records so far."""
        self._records += self._read()
        return list(self._records)

    def lines(self) -> list[str]:
        """The texts of all records so far."""
        return [record.text for record in self.records()]

    def __enter__(self) -> KernelLog:
        try:
            self._descriptor = os.open(DEVICE, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError:
            raise Forbidden(
                f"{DEVICE}: the kernel log is not readable for this user: it needs kernel.dmesg_restrict=0 and "
                "the right to open the file, or root of the machine (CAP_SYSLOG outside a user namespace)"
            ) from None
        except FileNotFoundError:
            raise Unsupported(f"{DEVICE} does not exist here (a container?): no kernel log") from None
        os.lseek(self._descriptor, 0, os.SEEK_END)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.records()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _read(self) -> Iterator[Record]:
        while self._descriptor is not None:
            try:
                yield parse_record(os.read(self._descriptor, RECORD_SIZE))
            except BlockingIOError:
                return
            except BrokenPipeError:
                self.lost += 1


def parse_record(raw: bytes) -> Record:
    """Parse `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT`; lines of properties (` KEY=VALUE`) may follow."""
    head, _, rest = raw.decode("utf-8", "replace").partition(";")
    priority, sequence, microseconds = head.split(",")[:3]
    return Record(int(sequence), int(microseconds) / 1e6, int(priority) & 7, rest.partition("\n")[0])


def kernel_log() -> KernelLog:
    """Read the kernel log from here on: `with kernel_log() as log: ...; log.lines()`.

    Raises Forbidden, on entry, where kernel.dmesg_restrict or the file's mode do not allow it.
    """
    return KernelLog()
