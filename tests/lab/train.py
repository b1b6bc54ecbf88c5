"""More frames at once than the machine's backlog takes: one packet that the kernel itself cuts into thousands."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from harness.traffic.frames import segment
from harness.traffic.raw import SOL_PACKET

if TYPE_CHECKING:
    from harness.lab import Host

PACKET_VNET_HDR = 15
VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4 = 1, 1
ETHERNET, IPV4, TCP, CHECKSUM = 14, 20, 20, 16
PIECE, PIECES = 20, 3000


def send_train(source: Host, target: Host) -> int:
    """Send 3000 frames that nothing processes before the last of them is sent; how many they were.

    The cable has no segmentation offload, so that the packet is cut just before it is sent (net/core/dev.c,
    validate_xmit_skb), and all pieces are queued in one go, with software interrupts disabled.
    """
    (near,), (far,) = source.interfaces.values(), target.interfaces.values()
    frame = segment(
        family=socket.AF_INET,
        macs=(near.mac, far.mac),
        addresses=(near.addresses[socket.AF_INET], far.addresses[socket.AF_INET]),
        ports=(9, 9),
        flags="A",
        payload=bytes(PIECE * PIECES),
    )
    header = struct.pack(
        "=BBHHHH", VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4,
        ETHERNET + IPV4 + TCP, PIECE, ETHERNET + IPV4, CHECKSUM,
    )  # fmt: skip
    with source.namespace:
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        packets.bind((near.name, 0))
    with packets:
        packets.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        packets.send(header + frame)
    return PIECES
