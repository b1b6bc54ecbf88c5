"""What the network interfaces of this namespace take off the kernel's hands."""

import fcntl
import socket
import struct
from array import array

from harness.incident.collector.places import names, text
from harness.incident.collector.pseudonyms import Pseudonyms
from harness.incident.collector.sysctls import interface_name

# include/uapi/linux/sockios.h and ethtool.h: the commands that anybody may give.
SIOCETHTOOL = 0x8946
GETS = {
    "rx-checksumming": 0x14,
    "tx-checksumming": 0x16,
    "scatter-gather": 0x18,
    "tcp-segmentation-offload": 0x1E,
    "generic-segmentation-offload": 0x23,
    "generic-receive-offload": 0x2B,
}
GFLAGS, LRO = 0x25, 1 << 15
MOST_SHOWN = 32
COUNTED = ("rx_packets", "tx_packets", "rx_dropped", "tx_dropped", "rx_errors", "tx_errors", "rx_missed_errors")


def interfaces(pseudonyms: Pseudonyms) -> "list[dict[str, object]]":
    """The interfaces by /proc/net/dev, with offloads by the names of ethtool -k."""
    shown = []  # type: list[dict[str, object]]
    for line in text("/proc/self/net/dev").splitlines()[2 : 2 + MOST_SHOWN]:
        name, _, numbers = line.partition(":")
        name, values = name.strip(), numbers.split()
        counted = {"rx_packets": values[1], "rx_errors": values[2], "rx_dropped": values[3], "tx_packets": values[9]}
        counted.update({"tx_errors": values[10], "tx_dropped": values[11]})
        shown.append(
            {
                "name": interface_name(name, pseudonyms),
                "mtu": _mtu(name),
                "offloads": _offloads(name),
                "counters": {key: int(value) for key, value in counted.items()},
            }
        )
    return shown


def _mtu(name: str) -> "int | None":
    """SIOCGIFMTU: /sys shows the interfaces of the namespace that it was mounted in."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            answer = fcntl.ioctl(asking, 0x8921, struct.pack("16sI12x", name.encode()[:15], 0))
        except OSError:
            return None
    return int(struct.unpack_from("=16xI", answer)[0])


def _offloads(name: str) -> "dict[str, bool]":
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for offload, command in list(GETS.items()) + [("large-receive-offload", GFLAGS)]:
            value = array("I", [command, 0])
            request = struct.pack("16sP8x", name.encode()[:15], value.buffer_info()[0])
            try:
                fcntl.ioctl(asking, SIOCETHTOOL, request)
            except OSError:
                continue
            found[offload] = bool(value[1] & LRO) if command == GFLAGS else bool(value[1])
    return found


def numa_nodes() -> int:
    """How many nodes of memory the machine has."""
    return len([name for name in names("/sys/devices/system/node") if name.startswith("node") and name[4:].isdigit()])
