"""The real hping3, as the flood that an attacker types."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from harness.errors import ProgramFailed, Unsupported

if TYPE_CHECKING:
    from harness.lab import Host, Program


def packets_sent(printed: str) -> int:
    """How many packets hping3 reports to have sent; ProgramFailed if it does not say."""
    report = re.search(r"(\d+) packets transmitted", printed)
    if report is None:
        raise ProgramFailed(f"hping3 reported no packets:\n{printed}")
    return int(report[1])


class Hping3Flood:
    """`hping3 -S -p PORT --flood` from a host; `with` ends it. hping3 speaks IPv4 only (Unsupported otherwise).

    With `spoofed`, each SYN comes from a random address (--rand-source); `count` is its -c, which --flood ignores.
    """

    def __init__(self, host: Host, address: str, port: int, *, spoofed: bool = False, count: int | None = None) -> None:
        if ":" in address:
            raise Unsupported("hping3 has no IPv6; the crafted flood has")
        options = ["-c", count] if count is not None else []
        options += ["--rand-source"] if spoofed else []
        self.started = time.monotonic()
        self.program: Program = host.start("hping3", *options, "-q", "-S", "-p", port, "--flood", address)

    def stop(self) -> str:
        """Interrupt it as Ctrl-C does, and return its report."""
        if self.program.alive():
            self.program.interrupt()
        return self.program.output()

    def __enter__(self) -> Hping3Flood:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
