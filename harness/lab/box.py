"""The box in a cable, from outside: a program of ours that moves frames, for kernels without netem (box_program)."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.lab import box_program
from harness.lab.box_program import Doing, Done
from harness.lab.line import nanoseconds, share
from harness.lab.program import spawn

if TYPE_CHECKING:
    from pathlib import Path

    from harness.lab.line import Line
    from harness.lab.netns import Namespace

# A frame's Ethernet header, with a tag of a VLAN.
HEADER = 14 + 4


class Box:
    """The program, in the namespace of the ports that it moves frames between; it ends with its lab.

    It also ends when this process does: it is in the PID namespace of the lab's programs, and its input comes from
    here. HarnessError, with what it said, when it has died.
    """

    def __init__(self, namespace: Namespace, ports: list[str], mtu: int, complaints: Path) -> None:
        self._complaints = complaints
        self._ports = len(ports)
        asked = json.dumps({"ports": ports, "largest": mtu + HEADER})
        with complaints.open("wb") as sink:
            self._process = spawn(
                namespace,
                [sys.executable, "-I", "-S", box_program.__file__, asked],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
            )
        self._is_open = False

    @property
    def pid(self) -> int:
        """Its process id, as this process sees it."""
        return self._process.pid

    def wait_open(self) -> None:
        """Wait until it moves frames."""
        if not self._is_open:
            self._answer()
            self._is_open = True

    def arm(self, line: Line, seeds: list[int]) -> None:
        """From now on do to frames what the line says, with a seed for each port; counting begins anew."""
        doing = Doing(
            nanoseconds(line.delay),
            nanoseconds(line.jitter),
            share(line.loss),
            share(line.duplicate),
            share(line.reorder),
            line.bytes_a_second,
            line.frames_queued,
        )
        self._say(arm={"doing": asdict(doing), "seeds": seeds})

    def tell(self) -> list[Done]:
        """What it has done to frames that leave by each port."""
        return [Done(**port) for port in self._say(tell=True)]

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        with contextlib.suppress(BrokenPipeError):  # what it had not read
            self._process.stdin.close()

    def _say(self, **command: object) -> Any:
        self.wait_open()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            raise self._died()
        return json.loads(said)["done"]

    def _died(self) -> HarnessError:
        status = self._process.wait()
        said = self._complaints.read_text(errors="replace").strip()
        return HarnessError(f"the box that moves frames of a cable has ended with status {status}: {said or 'no word'}")
