"""What the machine's receive backlog has dropped: the one queue that labs share, with all else on the machine.

A frame that crosses a veth waits in the backlog of the CPU it was sent on (net/core/dev.c, enqueue_to_backlog), which
takes net.core.netdev_max_backlog frames of all namespaces together. While a flood fills it, whatever else arrives on
that CPU is dropped, in other labs too; no counter of any host says so.
"""

from __future__ import annotations

from pathlib import Path

SOFTNET = Path("/proc/net/softnet_stat")


def backlog_drops() -> int:
    """How many frames the backlogs of all CPUs have dropped since the machine was booted.

    Source: net/core/net-procfs.c, softnet_seq_show: a line a CPU, hexadecimal, the second column.
    """
    return sum(int(line.split()[1], 16) for line in SOFTNET.read_text().splitlines())
