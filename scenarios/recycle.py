"""What the scenarios share that need tcp_tw_recycle, or show that it is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.laws import before

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Host

RECYCLE = "net.ipv4.tcp_tw_recycle"
# Whether the kernel has it.
THERE = before("tw-recycle-is-gone")


def lacks_recycle(claim: ClaimRun, host: Host) -> bool:
    """Whether the kernel has no such knob; the run is then settled by what it says to that."""
    if RECYCLE in host.sysctl:
        return False
    claim.not_applicable("the kernel has no tcp_tw_recycle", shown=host.run("sysctl", RECYCLE, check=False).stderr)
    return True
