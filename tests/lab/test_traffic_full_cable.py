"""A cable without room: a tap device with a queue of one frame, whose other end is read when the test says so."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from harness.traffic.clock_shift import carry
from harness.traffic.flood import PACKET_QDISC_BYPASS, Batches
from harness.traffic.raw import SOL_PACKET, put
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.lab import Lab, Pair

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
LOCAL_EXPERIMENTAL = 0x88B5
FRAMES = [bytes.fromhex("ffffffffffff 020000000001 88b5") + bytes([n]) * 50 for n in range(4)]


@dataclass
class Cable:
    """A packet socket at one end, a file at the other."""

    sending: socket.socket
    tap: int

    def read(self) -> bytes:
        """The frame that came first, once there is one."""
        until(lambda: select.select([self.tap], [], [], 0)[0], what="a frame on the cable")
        return os.read(self.tap, 2000)


@pytest.fixture
def cable(lab: Lab) -> Iterator[Cable]:
    """A cable that has no room for a second frame."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("this machine has no /dev/net/tun for us")
    host = lab.host("a")
    with host:
        tap = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"tap0", IFF_TAP | IFF_NO_PI))
    host.sysctl["net.ipv6.conf.tap0.disable_ipv6"] = 1  # whose multicast would fill the queue
    host.run("ip", "link", "set", "tap0", "txqueuelen", "1", "up")
    with host, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sending:
        sending.bind(("tap0", 0))
        sending.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)  # a veth has no queue of its own
        yield Cable(sending, tap)
    os.close(tap)


def fill(cable: Cable) -> None:
    cable.sending.send(FRAMES[0])
    with pytest.raises(OSError, match="No buffer space") as error:
        cable.sending.send(FRAMES[1])
    assert error.value.errno == errno.ENOBUFS


def test_a_frame_is_put_on_the_cable_once_there_is_room(cable: Cable) -> None:
    fill(cable)
    second = threading.Thread(target=put, args=(cable.sending, FRAMES[2]), daemon=True)
    second.start()
    assert cable.read() == FRAMES[0]
    assert cable.read() == FRAMES[2]
    second.join()


def test_a_batch_waits_while_there_is_no_room_and_loses_nothing(cable: Cable) -> None:
    batches = Batches(FRAMES)
    assert batches.send(cable.sending.fileno(), 4) == 1
    assert batches.send(cable.sending.fileno(), 4) == 0
    assert cable.read() == FRAMES[0]
    assert batches.send(cable.sending.fileno(), 4) == 1
    assert cable.read() == FRAMES[1]


def test_a_box_in_the_cable_waits_while_there_is_no_room(cable: Cable, pair: Pair) -> None:
    fill(cable)
    ended, ending = os.pipe()
    with pair.server, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as near:
        near.bind(("eth0", LOCAL_EXPERIMENTAL))  # and not what hosts say by themselves, of their multicast groups
        carrying = threading.Thread(target=carry, args=(near, cable.sending, ended, lambda *_: None), daemon=True)
        carrying.start()
        with pair.client, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sending:
            sending.bind(("eth0", 0))
            sending.send(FRAMES[2])
            sending.send(FRAMES[3])
        assert [cable.read() for _ in range(3)] == [FRAMES[0], FRAMES[2], FRAMES[3]]
        os.close(ending)
        carrying.join()
    os.close(ended)


def test_what_is_no_lack_of_room_is_an_error(cable: Cable) -> None:
    with pytest.raises(OSError, match="too long") as error:
        put(cable.sending, bytes(70_000))
    assert error.value.errno == errno.EMSGSIZE
