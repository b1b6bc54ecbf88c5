"""What runs in a lab: listeners, connectors, raw peers, floods, impairments."""

from harness.traffic.connection import Connection, establish
from harness.traffic.connector import Attempt, Attempts, answered, connect
from harness.traffic.flood import Flood, flood
from harness.traffic.impair import Arrivals, Drop, Hold, arrivals, drop, hold
from harness.traffic.listener import Listener, echo, listen
from harness.traffic.raw import SYN_OPTIONS, RawConnection, RawPeer

__all__ = [
    "SYN_OPTIONS",
    "Arrivals",
    "Attempt",
    "Attempts",
    "Connection",
    "Drop",
    "Flood",
    "Hold",
    "Listener",
    "RawConnection",
    "RawPeer",
    "answered",
    "arrivals",
    "connect",
    "drop",
    "echo",
    "establish",
    "flood",
    "hold",
    "listen",
]
