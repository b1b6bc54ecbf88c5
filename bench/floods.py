"""How many SYNs a second reach a listener: the crafted flood against hping3 --flood, on the same pair."""

from __future__ import annotations

import select
import time

from bench.measure import Row
from harness.lab import Lab, pair
from harness.observe import counters
from harness.traffic import RawPeer, drop, flood, listen
from harness.traffic.hping3 import Hping3Flood


def flood_rate(rounds: int, length: float = 1.0) -> Row:
    """The SYNs that the server's TCP counted (Tcp.InSegs), turn about, the best round of each."""
    ours, other = [], []
    for _ in range(rounds):
        with Lab() as lab:
            network = pair(lab)
            # Without cookies, as in document 000: the listener drops what is too much, and answers nothing.
            network.server.sysctl["net.ipv4.tcp_syncookies"] = 0
            listener = listen(network.server, 128)

            def arrived() -> int:
                return counters(network.server).Tcp.InSegs  # noqa: B023

            before = arrived()
            with flood(network.server, network.client, listener, seconds=length) as running:
                rate = running.wait()
            ours.append((arrived() - before) / rate.seconds)
            # hping3's answers must not come back as RSTs: its addresses get no answer from anybody.
            network.server.route("default", RawPeer(network.server, network.client).address, network.server.family)
            network.server.close_netlink()
            with (
                drop(network.client, sport=listener.port),
                Hping3Flood(network.client, network.server.ip, listener.port, spoofed=False),
            ):
                before, started = arrived(), time.monotonic()
                select.select([], [], [], length)
                other.append((arrived() - before) / (time.monotonic() - started))
    best, hping3 = max(ours), max(other)
    return Row(
        "SYNs a second at the listener",
        f"{best:,.0f}",
        f"hping3 --flood {hping3:,.0f}",
        "twice as many",
        best >= 2 * hping3,
    )
