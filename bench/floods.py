"""How many SYNs a second reach a listener, by the crafted flood and by other programs; and how well it keeps a rate."""

from __future__ import annotations

import select
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.measure import Row
from harness.lab import Lab, pair
from harness.observe import counters
from harness.traffic import RawPeer, drop, flood, listen
from harness.traffic.hping3 import Hping3Flood
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.lab import Pair
    from harness.traffic import Listener

# How far a rate may be from the one that is asked for; these shares are asked for of what can be sent.
NEAR, SHARES = 0.01, (0.01, 0.1, 0.25, 0.5)
# trafgen(8) fills in random fields and computes the checksum of each packet while it sends; so does hping3.
TRAFGEN = """{{
  eth(da={there}, sa={here}),
  ipv4(sa={source}, da={address}, ttl=64),
  tcp(sp=dinc(1024, 65535), dp={port}, seq=drnd(), win=64240, syn)
}}
"""


@contextmanager
def flooded() -> Iterator[tuple[Pair, Listener]]:
    """A pair and a listener whose queue is full at once: it drops what is too much, and answers nothing."""
    with Lab() as lab:
        network = pair(lab)
        # Without cookies, as in document 000.
        network.server.sysctl["net.ipv4.tcp_syncookies"] = 0
        listener = listen(network.server, 128)
        # Answers must not come back as RSTs: the clients' addresses get no answer from anybody.
        network.server.route("default", RawPeer(network.server, network.client).address, network.server.family)
        network.server.close_netlink()
        drop(network.client, sport=listener.port)
        yield network, listener


def arrived(network: Pair) -> int:
    """The segments that the server's TCP has counted (Tcp.InSegs)."""
    return counters(network.server).Tcp.InSegs


def ours(length: float) -> float:
    """SYNs a second at the listener, by the crafted flood."""
    with flooded() as (network, listener):
        before = arrived(network)
        with flood(network.server, network.client, listener, seconds=length) as running:
            rate = running.wait()
        return (arrived(network) - before) / rate.seconds


def by_hping3(length: float) -> float:
    """The same by hping3 --flood."""
    with flooded() as (network, listener), Hping3Flood(network.client, network.server.ip, listener.port, spoofed=False):
        return counted(network, length)


def by_trafgen(length: float) -> float:
    """The same by trafgen of netsniff-ng, as one process; it sends from a mapped ring, past the device's queue."""
    with flooded() as (network, listener):
        client, server = network.client, network.server
        here, there = (next(iter(host.interfaces.values())) for host in (client, server))
        packet = TRAFGEN.format(there=there.mac, here=here.mac, source=client.ip, address=server.ip, port=listener.port)
        file = client.lab.directory / "syn.trafgen"
        file.write_text(packet)
        program = client.start(
            "trafgen", "--dev", here.name, "--conf", file, "--cpus", 1, "--notouch-irq", "--no-sock-mem"
        )
        try:
            begun = arrived(network)
            until(lambda: arrived(network) > begun, what="trafgen's first SYN")
            return counted(network, length)
        finally:
            program.stop()


def counted(network: Pair, length: float) -> float:
    """What arrives in a second, while a program sends."""
    before, started = arrived(network), time.monotonic()
    select.select([], [], [], length)
    return (arrived(network) - before) / (time.monotonic() - started)


def flood_rates(rounds: int, length: float = 1.0) -> list[Row]:
    """The crafted flood beside the two programs, turn about, the best round of each; and the rate that is asked for."""
    others = {"hping3 --flood": (by_hping3, 6)}
    if shutil.which("trafgen"):
        others["trafgen, one processor"] = (by_trafgen, 1)
    seen: dict[str, list[float]] = {name: [] for name in ("", *others)}
    for _ in range(rounds):
        seen[""].append(ours(length))
        for name, (measured, _) in others.items():
            seen[name].append(measured(length))
    best = {name: max(rates) for name, rates in seen.items()}
    rows = [
        Row(
            "SYNs a second at the listener", f"{best['']:,.0f}", f"{name} {best[name]:,.0f}",
            f"{times} times as many" if times > 1 else "as many", best[""] >= times * best[name],
        )
        for name, (_, times) in others.items()
    ]  # fmt: skip
    if len(others) == 1:
        missing = "trafgen is not installed (Debian: netsniff-ng)"
        rows.append(Row("SYNs a second at the listener", f"{best['']:,.0f}", missing, "as many", met=False))
    return [*rows, *(paced(share * best[""]) for share in SHARES)]


def paced(rate: float, length: float = 3.0) -> Row:
    """A flood that is held back: what it has sent, against what was asked for."""
    with flooded() as (network, listener):
        sent = flood(network.server, network.client, listener, seconds=length, rate=rate).wait().per_second
    off = abs(sent / rate - 1)
    return Row(f"a flood of {rate:,.0f} SYNs a second", f"{sent:,.0f}", "", f"within {NEAR:.0%}", off <= NEAR)
