"""Local ports: which ones connect() draws from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.laws.boundaries import since

if TYPE_CHECKING:
    from harness.laws.kernel import KernelVersion


def default_range(kernel: KernelVersion | None = None) -> range:
    """The ports of ip_local_port_range unless it is set, on the running kernel unless another is given.

    There is one less where connect() prefers every other port and wants an even number of them. net/ipv4/af_inet.c,
    inet_init_net().
    """
    return range(32768, 61000 if since("port-range-ends-at-60999", kernel) else 61001)
