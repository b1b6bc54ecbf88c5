"""The sockets of this network namespace as they are printed: flows, and the few that stand out."""

import heapq
import time

from harness.incident.collector.diag import ALL, LISTENING, Found, info
from harness.incident.collector.proc_tcp import sockets
from harness.incident.collector.pseudonyms import Pseudonyms
from harness.incident.collector.rows import NOBODY, Rows, sum_up, the_largest

MOST_NOTABLE = 100
MUCH = 1 << 16


def notable(state: str, timer: str, retransmits: int, queues: "tuple[int, int]") -> int:
    """How much a socket stands out: it repeats itself, probes a closed window, or much waits in it; 0: not at all."""
    if timer == "persist":
        return 1000 + retransmits
    if timer in ("on", "keepalive") and retransmits and state != "SYN-RECV":
        return 100 * retransmits
    return max(queues) // MUCH if state != "LISTEN" else 0


def socket_table(listening: "set[int]", pseudonyms: Pseudonyms, most: int) -> "dict[str, object]":
    """All sockets but the listeners, summed up."""
    taken = time.time()
    rows = Rows()
    standing_out = []  # type: list[tuple[int, int, Found]]
    found, way = sockets(ALL & ~LISTENING)
    for each in found:
        rows.add(each.state, each.local, each.peer, each.queues, retransmits=each.retransmits)
        score = notable(each.state, each.timer, each.retransmits, each.queues)
        if score:
            keep = heapq.heappush if len(standing_out) < MOST_NOTABLE else heapq.heappushpop
            keep(standing_out, (score, len(rows), each))
    flows, more, their_sockets = the_largest(sum_up(rows, listening), most)
    return {
        "taken": taken,
        "way": way,
        "total": len(rows),
        "states": rows.counted(),
        "flows": [_flow(rows, key, flow, pseudonyms) for key, flow in flows],
        "rest": [more, their_sockets],
        "notable": [_notable(each, pseudonyms) for _, _, each in sorted(standing_out, key=lambda kept: -kept[0])],
    }


def _flow(rows: Rows, key: "tuple[bool, int, int, int, int, int]", flow: "list[int]", pseudonyms: Pseudonyms) -> "list":  # type: ignore[type-arg]
    comes, state, local, local_port, peer, peer_port = key
    return [
        "in" if comes else "out",
        rows.words[state],
        [_address_shown(rows, local, pseudonyms), local_port],
        ["" if peer == NOBODY else _address_shown(rows, peer, pseudonyms), peer_port],
    ] + flow[:7] + flow[8:]  # fmt: skip


def _address_shown(rows: Rows, number: int, pseudonyms: Pseudonyms) -> str:
    address = rows.addresses[number]
    return pseudonyms.address(address) if isinstance(address, bytes) else address


def _notable(found: Found, pseudonyms: Pseudonyms) -> "dict[str, object]":
    return {
        "state": found.state,
        "local": [pseudonyms.address(found.local[0]), found.local[1]],
        "peer": [pseudonyms.address(found.peer[0]), found.peer[1]],
        "recv_q": found.queues[0],
        "send_q": found.queues[1],
        "timer": [found.timer, found.expires / 1000, found.retransmits],
        "info": info(found) if found.identity else {},
    }
