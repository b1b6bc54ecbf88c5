"""Evidence made up for tests of the report: as large and as many-sided as a run's, and about no kernel at all."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from harness.evidence.codec import encode_file
from harness.evidence.types import (
    Change,
    Check,
    Claim,
    Endpoint,
    Expectation,
    Judgement,
    Kernel,
    Knob,
    Moved,
    Outcome,
    Phase,
    PhaseKind,
    Premise,
    Result,
    Run,
    Series,
    SocketRow,
    SocketTable,
    SocketTimer,
    Source,
    Verdict,
    wanted_of,
)
from harness.evidence.values import Kind, value_of
from harness.laws.ranges import matches
from harness.observe.packet import Packet
from harness.observe.pcapng import pcapng

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from harness.evidence.types import Comparison

GROUPS = ("accept-queue", "syn-queue", "syncookies", "time-wait", "tw-reuse")
BITS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16}
CLIENT, SERVER = "10.1.0.1", "10.1.0.2"
CHANGE = Change("64a146513f8f", "[NET]: Revert incorrect changes.", "5.4")
START = 1_700_000_000


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
    addresses = [bytes(int(part) for part in end[0].split(".")) for end in (src, dst)]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp) + len(data), 0, 0, 64, 6, 0) + b"".join(addresses)
    return b"\2" * 12 + b"\x08\x00" + ip + tcp + data


def captured(*sights: tuple[float, str, str, bytes]) -> bytes:
    """A pcapng file of (seconds, host, direction, frame)."""
    places: dict[str, Place] = {}
    for seconds, host, direction, content in sights:
        place = places.setdefault(host, Place(Named(host), "eth0"))
        time = START * 1_000_000_000 + int(seconds * 1e9)
        place.seen.append(Packet(time, direction, "eth0", len(content), content, True))
    return pcapng(places.values())


def dropped_ack(port: int = 80, source: int = 40000, repeats: int = 2, *, pause: float | None = None) -> bytes:
    """What a server's interface sees when its accept queue is full: the last ACK does not get anywhere.

    The SYN-ACK is repeated after 1, 2, 4 … seconds, or after as many pauses.
    """
    client, server = (CLIENT, source), (SERVER, port)
    sights = [
        (0.0, "server", "in", frame(client, server, "S", 100)),
        (0.0001, "server", "out", frame(server, client, "SA", 900, 101)),
        (0.0002, "server", "in", frame(client, server, "A", 101, 901)),
    ]
    at = 0.0
    for n in range(repeats):
        at = 2.0**n if pause is None else (n + 1) * pause
        sights += [
            (at, "server", "out", frame(server, client, "SA", 900, 101)),
            (at + 0.0002, "server", "in", frame(client, server, "A", 101, 901)),
        ]
    sights.append((max(9.0, at + 1), "server", "in", frame(client, server, "PA", 101, 901, data=b"request")))
    sights.append((max(9.1, at + 1.1), "server", "out", frame(server, client, "A", 901, 108)))
    return captured(*sights)


def compared(what: str, measured: object, document: object, kernel: object = None) -> Judgement:
    """A comparison with a document."""
    kernel = document if kernel is None else kernel
    result = (
        Result.DOCUMENT
        if matches(document, measured)
        else Result.KERNEL
        if matches(kernel, measured)
        else Result.NEITHER
    )
    return Judgement(what, value_of(measured), wanted_of(document), wanted_of(kernel), result)


def checked(what: str, measured: object, wanted: object) -> Check:
    """What a control saw."""
    return Check(what, value_of(measured), wanted_of(wanted), matches(wanted, measured))


def premise(what: str, measured: object, wanted: object) -> Premise:
    """A condition of the instrument."""
    return Premise(what, value_of(measured), wanted_of(wanted), matches(wanted, measured))


def row(state: str = "ESTAB", local: str = SERVER, peer: str = CLIENT, *, ports: tuple[int, int] = (80, 40000)) -> SocketRow:  # fmt: skip  # noqa: E501
    """A socket of the server's; a listener's peer is anybody."""
    if state == "LISTEN":
        return SocketRow(state, 0, 128, Endpoint(local, ports[0]), Endpoint("0.0.0.0", 0))
    timer = SocketTimer("on", 0.2, 1) if state != "TIME-WAIT" else SocketTimer("time-wait", 59.5, 0)
    return SocketRow(state, 0, 0, Endpoint(local, ports[0]), Endpoint(peer, ports[1]), timer)


def table(*rows: SocketRow) -> SocketTable:
    """A host's sockets."""
    states = [socket.state for socket in rows]
    return SocketTable(len(rows), {state: states.count(state) for state in dict.fromkeys(states)}, rows)


def course(
    name: str,
    points: Sequence[tuple[float | str, float]],
    *,
    unit: str = "sockets",
    x: str = "s",
    kind: Kind = Kind.COUNT,
    x_kind: Kind = Kind.SECONDS,
) -> Series:
    """A series, by default of how many sockets there were over time."""
    return Series(name, tuple(points), kind, unit, x, x_kind)


def phase(kind: str, title: str, *comparisons: Comparison, counters: int = 12, sockets: int = 5, **parts: Any) -> Phase:
    """A phase with knobs, counters of two hosts, and sockets of one; `parts` are those of the type."""
    rows = [row("LISTEN"), *(row(ports=(80, 41000 + n)) for n in range(sockets))]
    moved = {f"TcpExt.TCPCounterNumber{n}": Moved(n, 3 * n + 1) for n in range(counters)}
    whole = Phase(
        PhaseKind(kind),
        title,
        comparisons,
        knobs={"server": {"net.core.somaxconn": Knob("4096", "128")}},
        counters={"client": moved, "server": moved} if counters else {},
        sockets={"server": table(*rows)},
    )
    return msgspec.structs.replace(whole, **parts)


def phases(*effect: Comparison, **parts: Any) -> tuple[Phase, Phase]:
    """An effect and its control; by default eleven wait where ten may. `parts` are of the effect."""
    comparisons = effect or (compared("waiting", 11, 10, 11),)
    return (
        phase("effect", "nobody accepts", *comparisons, **parts),
        phase("control", "each is accepted", checked("refused", 0, 0)),
    )


def run(
    test: str = "test_limit",
    params: str = "ipv4",
    *,
    version: str = "6.1.2",
    kernel_name: str = "",
    verdict: Verdict | str | None = Verdict.REFUTED,
    outcome: Outcome | str = Outcome.EXPECTED,
    **parts: Any,
) -> Run:
    """One run of a claim; `kernel_name` is what --kernel called the kernel, last in the brackets."""
    brackets = "-".join(filter(None, (params, kernel_name)))
    whole = Run(
        Kernel(f"{version}-amd64", version, "x86_64"),
        f"scenarios/test_queue.py::{test}[{brackets}]",
        Outcome(outcome),
        START + 0.5,
        0.25,
        params=brackets,
        kernel_name=kernel_name,
        verdict=Verdict(verdict) if verdict else None,
        expected=Verdict.REFUTED,
        phases=phases(),
    )
    return msgspec.structs.replace(whole, **parts)


def crashed(test: str = "test_limit", params: str = "ipv4", **parts: Any) -> Run:
    """A run whose worker died in it: it has no phases, and no verdict."""
    reason = "the worker died while it ran this test"
    return run(test, params, verdict=None, outcome=Outcome.FAILED, phases=(), reason=reason, **parts)


def claim(name: str = "queue.limit", statement: str = "Ten may wait.", document: str = "000") -> Claim:
    """A claim that holds before 5.4 and is refuted since."""
    group, _, ident = name.partition(".")
    expectations = (
        Expectation("<5.4", (((3, 0, 0), (5, 4, 0)),), Verdict.HOLDS, "ten did"),
        Expectation(">=5.4", (((5, 4, 0), None),), Verdict.REFUTED, "eleven do", CHANGE),
    )
    return Claim(group, ident, statement, (Source(document, "Of queues"),), expectations)


def save(directory: Path, which: Claim, *runs: Run, **head: Any) -> Path:
    """Write an evidence file; `head` stands in place of what its first line says."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{which.name.replace('/', '_')}.json"
    content = encode_file(which, list(runs))
    if head:
        content = json.dumps(json.loads(content) | head).encode()
    file.write_bytes(content)
    return file


def full_run(
    directory: Path, version: str, *, claims: int = 125, with_packets: int = 26, with_series: int = 20
) -> None:
    """Evidence as a run of all scenarios leaves it: some 4 MB, 52 captures, 20 claims with plots of six courses.

    What clocks read is another on each kernel, as it is in a real run.
    """
    directory.mkdir(parents=True, exist_ok=True)
    kernel = sum(version.encode())
    for n in range(claims):
        name = f"{GROUPS[n % len(GROUPS)]}.claim-{n:03}"
        runs = []
        for family in ("ipv4", "ipv6"):
            packets = f"{name}-{family}-{version}.pcapng" if n < with_packets else ""
            if packets:
                capture = dropped_ack(repeats=30, pause=1 + kernel / 1000 + n / 100)
                (directory / packets).write_bytes(capture)
            verdict = Verdict.REFUTED if n % 4 == 0 else Verdict.HOLDS
            parts: dict[str, Any] = {
                "verdict": verdict,
                "packets": packets,
                "phases": _full_phases(n + kernel if n < with_series else 0),
            }
            runs.append(run(f"test_{n}", family, version=version, kernel_name=version, **parts))
        save(directory, claim(name, f"Statement {n}.", f"00{n % 5}"), *runs)


def _full_phases(seed: int) -> tuple[Phase, ...]:
    """Four phases, as large as the median one; with a `seed` three of them have a course of time."""
    large: dict[str, Any] = {"counters": 14, "sockets": 19}
    courses = [_course(name, seed + n) for n, name in enumerate(("TIME-WAIT", "ports", "TIME-WAIT"))] if seed else []
    series = [*((each,) for each in courses), (), (), ()]
    compare = [compared(f"value {v}", v, v) for v in range(3)]
    check = [checked(f"value {v}", v, v) for v in range(3)]
    return (
        phase("effect", "effect 1", *compare, **large, series=series[0]),
        phase("effect", "effect 2", *compare, **large, series=series[1]),
        phase("control", "control 1", *check, **large, series=series[2]),
        phase("control", "control 2", *check, **large),
    )


def _course(name: str, seed: int) -> Series:
    return course(name, [(x / 2 + seed % 7 / 10, x * x + seed % 5) for x in range(6)])
