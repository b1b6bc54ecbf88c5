"""Evidence made up for tests of the report: as large and as many-sided as a run's, and about no kernel at all."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from harness.observe.capture import Packet
from harness.observe.pcapng import pcapng

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

GROUPS = ("accept-queue", "syn-queue", "syncookies", "time-wait", "tw-reuse")
BITS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16}
CLIENT, SERVER = "10.1.0.1", "10.1.0.2"
COMMIT = {"commit": "64a146513f8f", "subject": "[NET]: Revert incorrect changes.", "release": "2.6.21"}


@dataclass
class Place:
    """What pcapng() takes for a capture."""

    host: Any
    interface: str
    seen: list[Packet] = field(default_factory=list)

    def packets(self) -> Iterable[Packet]:
        return self.seen


@dataclass(frozen=True)
class Named:
    """What pcapng() takes for a host."""

    name: str


def frame(
    src: tuple[str, int], dst: tuple[str, int], flags: str, seq: int, ack: int = 0, *, data: bytes = b""
) -> bytes:
    """An Ethernet frame with a TCP segment over IPv4."""
    options = struct.pack("!BBBBII", 1, 1, 8, 10, seq & 0xFFFF, 0)
    bits = sum(BITS[flag] for flag in flags) | 8 << 12
    tcp = struct.pack("!HHIIHHHH", src[1], dst[1], seq, ack, bits, 64240, 0, 0) + options
    address = [bytes(int(part) for part in one[0].split(".")) for one in (src, dst)]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp) + len(data), 0, 0, 64, 6, 0) + b"".join(address)
    return b"\2" * 12 + b"\x08\x00" + ip + tcp + data


def captured(*sights: tuple[float, str, str, bytes]) -> bytes:
    """A pcapng file of (seconds, host, direction, frame)."""
    places: dict[str, Place] = {}
    for seconds, host, direction, content in sights:
        place = places.setdefault(host, Place(Named(host), "eth0"))
        time = 1_700_000_000_000_000_000 + int(seconds * 1e9)
        place.seen.append(Packet(time, direction, "eth0", len(content), content, True))
    return pcapng(places.values())  # type: ignore[arg-type]


def dropped_ack(port: int = 80, source: int = 40000, repeats: int = 2) -> bytes:
    """What a server's interface sees when its accept queue is full: the last ACK does not get anywhere."""
    client, server = (CLIENT, source), (SERVER, port)
    sights = [
        (0.0, "server", "in", frame(client, server, "S", 100)),
        (0.0001, "server", "out", frame(server, client, "SA", 900, 101)),
        (0.0002, "server", "in", frame(client, server, "A", 101, 901)),
    ]
    for n in range(repeats):
        at = 2.0**n
        sights += [
            (at, "server", "out", frame(server, client, "SA", 900, 101)),
            (at + 0.0002, "server", "in", frame(client, server, "A", 101, 901)),
        ]
    sights.append((9.0, "server", "in", frame(client, server, "PA", 101, 901, data=b"request")))
    sights.append((9.1, "server", "out", frame(server, client, "A", 901, 108)))
    return captured(*sights)


def compared(what: str, measured: object, document: object, kernel: object = None) -> dict[str, Any]:
    """A comparison of an effect."""
    kernel = document if kernel is None else kernel
    result = "document" if measured == document else "kernel" if measured == kernel else "neither"
    return {"what": what, "measured": measured, "document": document, "kernel": kernel, "result": result}


def expected(what: str, measured: object, wanted: object) -> dict[str, Any]:
    """A comparison of a control."""
    return {"what": what, "measured": measured, "wanted": wanted, "result": "met" if measured == wanted else "not met"}


def phase(kind: str, title: str, *comparisons: dict[str, Any], counters: int = 12, sockets: int = 5) -> dict[str, Any]:
    """A phase with knobs, counters and sockets of two hosts."""
    rows = [["LISTEN", 0, 128, f"{SERVER}:80", "0.0.0.0:0", ""]]
    rows += [["ESTAB", 0, n, f"{SERVER}:80", f"{CLIENT}:{41000 + n}", "on 0.2s, 1 retransmits"] for n in range(sockets)]
    moved = {f"TcpExt.TCPCounterNumber{n}": [n, 3 * n + 1, 2 * n + 1] for n in range(counters)}
    return {
        "kind": kind,
        "title": title,
        "knobs": {"server": {"net.core.somaxconn": ["4096", "128"]}},
        "counters": {"client": moved, "server": moved},
        "sockets": {"server": {"total": len(rows), "states": {"LISTEN": 1, "ESTAB": sockets}, "rows": rows}},
        "comparisons": list(comparisons),
    }


def run(
    test: str = "test_limit", params: str = "ipv4", *, version: str = "6.1.2", verdict: str | None = "refuted",
    outcome: str = "expected", phases: Sequence[dict[str, Any]] | None = None, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """One run of a claim."""
    if phases is None:
        phases = [
            phase("effect", "nobody accepts", compared("waiting", 11, 10, 11)),
            phase("control", "each is accepted", expected("refused", 0, 0)),
        ]
    return {
        "kernel": {"release": f"{version}-amd64", "version": version, "machine": "x86_64"},
        "nodeid": f"scenarios/test_queue.py::{test}[{params}]", "params": params, "outcome": outcome,
        "verdict": verdict, "expected": "refuted", "reason": "", "started": 1_700_000_000.5, "duration": 0.25,
        "phases": list(phases), "packets": None, **more,
    }  # fmt: skip


def claim(name: str = "queue.limit", statement: str = "Ten may wait.", document: str = "000") -> dict[str, Any]:
    """A claim as evidence repeats it: it holds before 5.4 and is refuted since."""
    return {
        "name": name,
        "statement": statement,
        "sources": [{"document": document, "heading": "Of queues"}],
        "expectations": [
            {"kernels": "<5.4", "verdict": "holds", "because": "ten did"},
            {"kernels": ">=5.4", "verdict": "refuted", "because": "eleven do", **COMMIT, "release": "5.4"},
        ],
    }


def save(directory: Path, which: dict[str, Any], *runs: dict[str, Any], **head: Any) -> Path:
    """Write an evidence file."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{which['name'].replace('/', '_')}.json"
    whole = {"schema": 1, "harness": "0.1.0", **head, "claim": which, "runs": list(runs)}
    file.write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")
    return file


def full_run(
    directory: Path, version: str, *, claims: int = 125, with_packets: int = 26, with_series: int = 25
) -> None:
    """Evidence as a run of all scenarios leaves it: some 4 MB, 52 captures, 25 claims with plots."""
    capture = dropped_ack(repeats=25)
    numbers = count()
    for n in range(claims):
        name = f"{GROUPS[n % len(GROUPS)]}.claim-{n:03}"
        runs = []
        for family in ("ipv4", "ipv6"):
            effects = [
                phase(
                    "effect", f"effect {i}", *(compared(f"value {v}", v, v) for v in range(4)), counters=40, sockets=12
                )
                for i in range(2)
            ]
            controls = [
                phase(
                    "control",
                    f"control {i}",
                    *(expected(f"value {v}", v, v) for v in range(3)),
                    counters=40,
                    sockets=12,
                )
                for i in range(2)
            ]
            if n < with_series:
                points = [[x / 2, x * x + next(numbers) % 7] for x in range(15)]
                effects[0]["series"] = {"TIME-WAIT": {"x": "s", "unit": "sockets", "points": points}}
                controls[0]["series"] = {"TIME-WAIT": {"x": "s", "unit": "sockets", "points": points[::2]}}
            verdict = "refuted" if n % 4 == 0 else "holds"
            made = run(f"test_{n}", f"{family}-{version}", version=version, verdict=verdict, phases=effects + controls)
            if n < with_packets:
                made["packets"] = f"{name}-{family}-{version}.pcapng"
                directory.mkdir(parents=True, exist_ok=True)
                (directory / made["packets"]).write_bytes(capture)
            runs.append(made)
        save(directory, claim(name, f"Statement {n}.", f"00{n % 5}"), *runs)
