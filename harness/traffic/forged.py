"""Segments made up by a scenario that continue a connection which was seen, and frames that arrive once more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.traffic import frames
from harness.traffic.layers import layers
from harness.traffic.raw import deliver
from harness.traffic.timestamps import stamp

if TYPE_CHECKING:
    from harness.lab import Host
    from harness.observe import Segment


def forge(to: Host, like: Segment, flags: str, *, seq: int, tsval: int | None, payload: bytes = b"") -> bytes:
    """The frame of a segment to a host, from where another came, with a number and a timestamp (or none) of its own.

    Addresses, ports, acknowledgement, window and echoed timestamp are those of `like`. raw.deliver() brings it there.
    """
    near = next(iter(to.interfaces.values()))
    neighbour, interface = next(member for member in to.lab.cable_of(to).members if member[0] is not to)
    return frames.segment(
        family=to.family,
        macs=(neighbour.interfaces[interface].mac, near.mac),
        addresses=(like.src, like.dst),
        ports=(like.sport, like.dport),
        flags=flags,
        seq=seq,
        ack=like.ack,
        window=like.window,
        options=stamp(tsval, like.tsecr or 0),
        payload=payload,
    )


def inject(
    to: Host, after: Segment, flags: str, *, beyond: int = 0, tsval: int | None = None, payload: bytes = b""
) -> None:
    """Let a forged segment arrive that follows another, with a number `beyond` the next one; see forge()."""
    deliver(to, forge(to, after, flags, seq=after.next_seq + beyond, tsval=tsval, payload=payload))


def checksummed(frame: bytes) -> bytes:
    """The frame with the TCP checksum that a network card fills in; without offloads it is there already."""
    known = layers()
    packet = known.ether(frame)
    del packet[known.tcp].chksum
    return bytes(packet)
