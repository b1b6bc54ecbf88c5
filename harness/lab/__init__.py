"""What a lab is made of: namespaces, links, topologies, NAT, sysctls, programs."""

from harness.lab.host import IPV4, IPV6, Host, Interface
from harness.lab.lab import Lab, Segment
from harness.lab.netns import Namespace
from harness.lab.program import Program, Ran
from harness.lab.topologies import BehindNat, Lan, Pair, behind_nat, lan, pair

__all__ = [
    "IPV4",
    "IPV6",
    "BehindNat",
    "Host",
    "Interface",
    "Lab",
    "Lan",
    "Namespace",
    "Pair",
    "Program",
    "Ran",
    "Segment",
    "behind_nat",
    "lan",
    "pair",
]
