"""The real hping3, as the flood that an attacker types."""

from __future__ import annotations

import re
import signal
import threading
import time
from typing import TYPE_CHECKING

from harness.errors import ProgramFailed, Unsupported

if TYPE_CHECKING:
    from harness.lab import Host, Program


# It stops and goes on by turns of so many seconds: a place of a full queue that becomes free while it stands still is
# free for up to so long, and a client may get it.
TURN = 0.01


def packets_sent(printed: str) -> int:
    """How many packets hping3 reports to have sent; ProgramFailed if it does not say."""
    report = re.search(r"(\d+) packets transmitted", printed)
    if report is None:
        raise ProgramFailed(f"hping3 reported no packets:\n{printed}")
    return int(report[1])


class Hping3Flood:
    """`hping3 -S -p PORT --flood` from a host; `with` ends it. hping3 speaks IPv4 only (Unsupported otherwise).

    With `spoofed`, each SYN comes from a random address (--rand-source); `count` is its -c, which --flood ignores.
    `share` is for how much of the time it runs, 1 for all of it: it sends for as long as it may, and takes a processor
    for that, while a real server's attackers have processors of their own.
    """

    def __init__(
        self, host: Host, address: str, port: int, *, spoofed: bool = False, count: int | None = None, share: float = 1
    ) -> None:
        if ":" in address:
            raise Unsupported("hping3 has no IPv6; the crafted flood has")
        host.lab.check_ready()
        options = ["-c", count] if count is not None else []
        options += ["--rand-source"] if spoofed else []
        self.started = time.monotonic()
        self.program: Program = host.start("hping3", *options, "-q", "-S", "-p", port, "--flood", address)
        self._turns = _Turns(self.program, share) if share < 1 else None

    def stop(self) -> str:
        """Interrupt it as Ctrl-C does, and return its report."""
        if self._turns is not None:
            self._turns.end()
        if self.program.alive():
            self.program.interrupt()
        return self.program.output()

    def __enter__(self) -> Hping3Flood:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Turns:
    """Stops a program and lets it go on, by turns, until end()."""

    def __init__(self, program: Program, share: float) -> None:
        self._program = program
        self._share = share
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="turns of hping3", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._program.alive():
            if self._over.wait(self._share * TURN):
                return
            self._program.signal(signal.SIGSTOP)
            is_over = self._over.wait((1 - self._share) * TURN)
            self._program.signal(signal.SIGCONT)
            if is_over:
                return

    def end(self) -> None:
        """Let it go on for good."""
        self._over.set()
        self._thread.join()
