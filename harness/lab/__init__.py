"""What a lab is made of: namespaces, links, topologies, NAT, sysctls, programs."""

from harness.errors import renamed
from harness.lab.cable import Cable
from harness.lab.host import IPV4, IPV6, Host, Interface
from harness.lab.lab import Lab
from harness.lab.netns import Namespace
from harness.lab.program import Program, Ran
from harness.lab.topologies import BehindNat, Lan, Pair, behind_nat, behind_router, lan, pair

__all__ = [
    "IPV4",
    "IPV6",
    "BehindNat",
    "Cable",
    "Host",
    "Interface",
    "Lab",
    "Lan",
    "Namespace",
    "Pair",
    "Program",
    "Ran",
    "behind_nat",
    "behind_router",
    "lan",
    "pair",
]


def __getattr__(name: str) -> type[Cable]:
    if name != "Segment":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    renamed("harness.lab.Segment", "harness.lab.Cable")
    return Cable
