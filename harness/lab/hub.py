"""What is in the middle of a switch, or of a cable that is like a real one: ports, and who moves frames between them.

A namespace with an interface for each host. A bridge moves the frames, or, where netem cannot do what a line says, a
box of ours. A frame is delayed, lost or queued once, where it leaves for a host: the host that sends does not notice,
neither its queues nor a capture there, and what a capture sees arrive has arrived.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import BadInput, HarnessError, Unsupported
from harness.lab import line as lines
from harness.lab import netem, offload, rtnetlink
from harness.lab.box import Box
from harness.lab.host import IPV4
from harness.lab.impairment import LineUsed, Towards

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.lab.host import Host
    from harness.lab.line import By, Line
    from harness.lab.netns import Namespace


class Hub:
    """The middle of a cable. Ports are plugged in, then it is opened; arm() lets it do what its line says.

    Until then frames pass as on a plain cable, so that a lab is ready soon, and what that takes is not counted.
    """

    def __init__(self, namespace: Host, mtu: int, line: Line) -> None:
        self.line = line
        self.by = who(line)
        self.seed = _seed(line)
        self._host = namespace
        self._mtu = mtu
        self._ports: list[str] = []
        self._box: Box | None = None
        self._armed = False
        self._last: list[Towards] | None = None
        with self._host:
            path = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
            path.write_text("1") if path.exists() else None
        if self.by != "box":
            self._host.netlink().tell(rtnetlink.bridge("bridge", mtu))

    def plug(self, host: Host, interface: str, mac: str) -> tuple[Namespace, str]:
        """Connect a new interface of a host; the port at its far end, with its namespace."""
        port = f"port{len(self._ports) + 1}"
        self._ports.append(port)
        host.netlink().tell(rtnetlink.veth(interface, mac, rtnetlink.Peer(port, self._host.namespace.fd)))
        master = None if self.by == "box" else self._index("bridge")
        self._host.netlink().tell(rtnetlink.up(self._index(port), mtu=self._mtu, master=master))
        if self.by is not None:
            with self._host.socket(socket.SOCK_DGRAM, IPV4) as control:
                offload.switch(control, port, tx=False, tso=False, gso=False, gro=False)
        return self._host.namespace, port

    def open(self) -> None:
        """Let frames pass, when all ports are there and hosts have their addresses; wait_open() is when they do.

        A bridge that is up sends the report of each host, that it listens to its own IPv6 address, to all ports; and
        goes through all ports whenever one gets or loses its far end (br_port_state_selection()).
        """
        if self.by == "box":
            self._box = Box(
                self._host.namespace, self._ports, self._mtu, self._host.lab.directory / f"{self._host.name}.err"
            )
            return
        if self.by == "netem":
            netem.without_chatter(self._host.namespace, self._ports)
        self._host.netlink().tell(rtnetlink.up(self._index("bridge")))

    def wait_open(self) -> None:
        """Wait until frames pass."""
        if self._box is not None:
            self._box.wait_open()

    def arm(self) -> None:
        """From now on frames fare as the line says, and are numbered from 1."""
        if self.by is None:
            return
        seeds = lines.seeds(self.seed or 0, len(self._ports))
        if self._box is not None:
            self._box.arm(self.line, seeds)
        else:
            for port, seed in zip(self._ports, seeds, strict=True):
                netem.attach(self._host.namespace, port, self.line, seed)
        self._armed = True

    @property
    def is_idle(self) -> bool:
        """Whether frames do not fare yet as the line says."""
        return self.by is not None and not self._armed

    def used(self, hosts: Sequence[str]) -> LineUsed:
        """The line, who did it, and what became of the frames to each of these hosts, which are those of the ports.

        Nothing is known of the frames, where the box has died.
        """
        assert self.by is not None
        line = self.line
        try:
            towards = tuple(self.towards(hosts))
        except HarnessError:
            towards = ()
        return LineUsed(
            between=tuple(hosts),
            by=self.by,
            delay=line.delay,
            jitter=line.jitter,
            loss=line.loss,
            duplicate=line.duplicate,
            reorder=line.reorder,
            rate=line.rate,
            queue=line.frames_queued or None,
            seed=self.seed,
            drawn=self.seed is not None and line.seed is None,
            towards=towards,
        )

    def close(self, hosts: Sequence[str]) -> None:
        """Note what became of frames, and let go of all; HarnessError if the box has died before."""
        try:
            self._last = self.towards(hosts)
        finally:
            self._last = self._last or []
            if self._box is not None:
                self._box.close()
            self._host.close()

    def close_netlink(self) -> None:
        """Let go of the set-up socket."""
        self._host.close_netlink()

    def towards(self, hosts: Sequence[str]) -> list[Towards]:
        """What became of the frames to each host up to now, or to the end; HarnessError if the box has died."""
        if self._last is not None:
            return self._last
        if self.by is None or not self._armed:
            return [Towards(host) for host in hosts]
        if self._box is not None:
            return [
                Towards(host, done.passed, done.lost, done.overflowed, done.crowded + done.overrun, done.latest / 1e9)
                for host, done in zip(hosts, self._box.tell(), strict=True)
            ]
        counted = [netem.counted(self._host.namespace, port) for port in self._ports]
        return [
            Towards(host, each.passed, each.lost, each.overflowed) for host, each in zip(hosts, counted, strict=True)
        ]

    def waiting(self) -> int:
        """How many frames are on the way now, to all hosts; HarnessError if the box has died."""
        if self._last is not None or self.by is None or not self._armed:
            return 0
        if self._box is not None:
            return sum(done.waiting for done in self._box.tell())
        return sum(netem.counted(self._host.namespace, port).waiting for port in self._ports)

    def _index(self, interface: str) -> int:
        with self._host:
            return socket.if_nametoindex(interface)


def who(line: Line) -> By | None:
    """Who does what a line says: netem where it can; Unsupported where the caller wants it and it cannot."""
    if line.does_nothing:
        return None
    if line.by == "box":
        return "box"
    lacks = netem.ability().lacks(line)
    if lacks and line.by == "netem":
        raise Unsupported(f'by="netem": {lacks}')
    return "box" if lacks else "netem"


def _seed(line: Line) -> int | None:
    """The seed of a line, drawn where the caller gives none: 32 bits, to be typed again."""
    if not line.is_random:
        return None
    return int.from_bytes(os.urandom(4), "big") if line.seed is None else line.seed


def check_offloads(offloads: bool, line: Line) -> None:
    """BadInput, where frames would be larger than the wire's: netem and the box count and lose what is one frame."""
    if offloads and not line.does_nothing:
        raise BadInput("offloads=True is for a cable that does nothing to frames: others carry them as a wire does")
