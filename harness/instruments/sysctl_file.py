"""A file of settings as an operator writes it, and the real `sysctl -p` that reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.lab import isolation
from harness.lab.netns import Namespace
from harness.lab.program import Ran, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.lab import Host
    from harness.lab.machine import MachineSysctls
    from harness.lab.sysctl import Sysctls


class SysctlFile:
    """Where `sysctl -p` is typed: on a host, or in the machine's namespace if only that has one of the knobs.

    `knobs` are those that the file will set; `sysctl` reads and sets them where the file does. What they were is put
    back when the lab closes.
    """

    def __init__(self, host: Host, knobs: Sequence[str]) -> None:
        self._file = host.lab.directory / "sysctl.conf"
        self._namespace = host.namespace
        self.sysctl: Sysctls | MachineSysctls = host.sysctl
        own = set(host.sysctl.names())
        if any(knob in host.sysctl and knob not in own for knob in knobs):
            self._namespace = Namespace(isolation.world().machine)
            self.sysctl = host.lab.machine_sysctl
        for knob in knobs:
            if knob in self.sysctl:
                self.sysctl[knob] = self.sysctl[knob]  # set, so that it is put back

    def apply(self, text: str) -> Ran:
        """Write the file and let sysctl read it, whatever it thinks of it."""
        self._file.write_text(text)
        return run(self._namespace, ["sysctl", "-p", str(self._file)], check=False)
