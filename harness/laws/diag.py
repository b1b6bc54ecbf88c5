"""What inet_diag makes of the questions that ss asks."""

from __future__ import annotations

from harness.laws.boundaries import before, since


def times_shown_without_t(*, filtered: bool) -> int:
    """How often ss shows a TCP socket when it is not asked for TCP alone (-t), with a filter of ports or without.

    It then asks for MPTCP's as well ("ss-asks-for-mptcp"), whose number is 262. A kernel before
    "diag-reads-wide-protocols" sees the lower eight bits, 6, which is TCP. Before "diag-tells-protocol-from-filter",
    inet_diag_bc_audit() refuses the attribute with that number where there is no filter beside it.
    """
    asks_twice = before("diag-reads-wide-protocols") and (filtered or since("diag-tells-protocol-from-filter"))
    return 2 if asks_twice else 1
