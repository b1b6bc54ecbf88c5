"""Why the kernel dropped packets: the reasons that the tracepoint skb:kfree_skb gives."""

from __future__ import annotations

import bisect
import difflib
import os
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import BadInput, Unsupported
from harness.observe.tracepoint import Format, Recorder, Sample, read_format

if TYPE_CHECKING:
    from types import TracebackType

EVENT = "skb/kfree_skb"
# 256 pages are one MiB on each CPU, some 15,000 drops between two looks.
PAGES = 256


@dataclass(frozen=True, slots=True)
class Dropped:
    """One dropped packet: `time` in seconds since the epoch, `protocol` its ethertype (0x0800 is IPv4)."""

    time: float
    reason: str
    protocol: int
    location: int
    cpu: int

    @property
    def function(self) -> str | None:
        """The kernel function that dropped it; None where kernel.kptr_restrict hides addresses."""
        addresses, names = _kernel_functions()
        position = bisect.bisect_right(addresses, self.location) - 1
        return names[position] if position >= 0 else None

    def __str__(self) -> str:
        return f"{self.time:.6f} {self.reason} in {self.function or hex(self.location)} (protocol {self.protocol:#06x})"


class DropReasons:
    """The packets dropped since the `with` began; after its end, those until then.

    The tracepoint is the machine's: drops of other labs and of the machine's own traffic are among them, and
    only the names of the reasons, the ethertype and the function tell them apart. NOT_SPECIFIED is what the
    kernel says where nobody has given a reason yet, often for packets that were not lost at all. And some that
    are lost are not reported: a SYN that a full queue turns away is freed as if it had been received
    (tcp_rcv_state_process(), consume_skb()); only the counters tell.
    """

    def __init__(self, only: tuple[str, ...] = ()) -> None:
        self._only = only
        self._format: Format | None = None
        self._recorder: Recorder | None = None
        self._stack = ExitStack()
        self._drops: list[Dropped] = []
        self.lost = 0
        """Drops that were not recorded, for want of room."""

    def events(self, reason: str | None = None, *, protocol: int | None = None) -> list[Dropped]:
        """The drops so far, in the order of time; those with a reason (`NO_SOCKET`) or an ethertype only."""
        self._drain()
        return [
            drop
            for drop in self._drops
            if reason in (None, drop.reason) and (protocol is None or drop.protocol == protocol)
        ]

    def counts(self, *, protocol: int | None = None) -> dict[str, int]:
        """How many drops so far, by reason, the most frequent first."""
        return dict(Counter(drop.reason for drop in self.events(protocol=protocol)).most_common())

    def reasons(self) -> list[str]:
        """The reasons that the running kernel can give (include/net/dropreason-core.h)."""
        return list(self._format.symbols.values()) if self._format else []

    def __enter__(self) -> DropReasons:
        self._format = read_format(EVENT)
        if "reason" not in self._format.fields:
            raise Unsupported(
                "this kernel gives no reasons for drops: they came with Linux 5.17 "
                '(c504e5c2f964 "net: skb: introduce kfree_skb_reason()")'
            )
        self._recorder = self._stack.enter_context(Recorder(self._format, PAGES, self._condition(self._format)))
        return self

    def _condition(self, layout: Format) -> str:
        """The reasons asked for, as numbers, which differ between kernels."""
        numbers = {name: number for number, name in layout.symbols.items()}
        unknown = [name for name in self._only if name not in numbers]
        if unknown:
            near = difflib.get_close_matches(unknown[0], numbers, n=3)
            raise BadInput(
                f"{unknown[0]}: kernel {os.uname().release} has no such reason to drop a packet"
                + (f"; near it: {', '.join(near)}" if near else "")
            )
        return " || ".join(f"reason == {numbers[name]}" for name in self._only)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._recorder is not None:
            self._recorder.stop()
            self._drain()
            self._recorder = None
        self._stack.close()

    def _drain(self) -> None:
        if self._recorder is not None and self._format is not None:
            self._drops += [_drop(self._format, sample) for sample in self._recorder.read()]
            # One CPU is read after the other: a later read may bring earlier drops.
            self._drops.sort(key=lambda drop: drop.time)
            self.lost = self._recorder.lost


def _drop(layout: Format, sample: Sample) -> Dropped:
    number = layout.value(sample.record, "reason")
    return Dropped(
        time=sample.time_ns / 1e9,
        reason=layout.symbols.get(number, str(number)),
        protocol=layout.value(sample.record, "protocol"),
        location=layout.value(sample.record, "location"),
        cpu=sample.cpu,
    )


@lru_cache(maxsize=1)
def _kernel_functions() -> tuple[list[int], list[str]]:
    """The addresses of the kernel's functions, ascending, and their names; empty where they are hidden."""
    with Path("/proc/kallsyms").open() as file:
        words = (line.split() for line in file)
        functions = sorted((int(address, 16), name) for address, kind, name, *_ in words if kind in "tTwW")
    known = [function for function in functions if function[0]]
    return [address for address, _ in known], [name for _, name in known]


def drop_reasons(*only: str) -> DropReasons:
    """Listen to drops: `with drop_reasons() as drops: ...; drops.counts()`.

    With names of reasons, the kernel records those alone: a flood that is dropped for another does not crowd them out.
    Raises, on entry, Unsupported for a kernel before 5.17 or without tracing, Forbidden for anyone but root of the
    machine, and BadInput for a reason that the kernel does not have.
    """
    return DropReasons(only)
