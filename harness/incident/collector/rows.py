"""Many sockets in little memory, summed up by state and place."""

from array import array
from collections import Counter

WILDCARDS = ("0.0.0.0", "::", "*")


class Rows:
    """Sockets as columns, 26 bytes each; addresses are kept once."""

    def __init__(self) -> None:
        self.states = array("B")
        self.local_ports, self.peer_ports = array("H"), array("H")
        self.locals, self.peers = array("I"), array("I")
        self.recv_qs, self.send_qs = array("I"), array("I")
        self.retransmits = array("B")
        self.lines = array("I")
        self.words = []  # type: list[str]
        self.addresses = []  # type: list[str | bytes]
        self._word_numbers = {}  # type: dict[str, int]
        self._numbers = {}  # type: dict[str | bytes, int]

    def add(
        self,
        state: str,
        local: "tuple[str | bytes, int]",
        peer: "tuple[str | bytes, int]",
        queues: "tuple[int, int]",
        *,
        retransmits: int = 0,
        line: int = 0,
    ) -> None:
        """One more socket; addresses are whatever the caller has, texts or bytes."""
        self.states.append(_number(state, self._word_numbers, self.words))
        self.locals.append(_number(local[0], self._numbers, self.addresses))
        self.peers.append(_number(peer[0], self._numbers, self.addresses))
        self.local_ports.append(local[1])
        self.peer_ports.append(peer[1])
        self.recv_qs.append(min(queues[0], 0xFFFFFFFF))
        self.send_qs.append(min(queues[1], 0xFFFFFFFF))
        self.retransmits.append(min(retransmits, 255))
        self.lines.append(line)

    def __len__(self) -> int:
        return len(self.states)

    def counted(self) -> "dict[str, int]":
        """How many sockets are in each state."""
        return {self.words[number]: n for number, n in Counter(self.states).items()}


def _number(thing: "str | bytes", numbers: "dict", things: "list") -> int:  # type: ignore[type-arg]
    number = numbers.get(thing)
    if number is None:
        number = numbers[thing] = len(things)
        things.append(thing)
    return number


# What is added up of the sockets of a flow, by place in a list.
SOCKETS, RECV_Q, SEND_Q, WITH_RECV_Q, WITH_SEND_Q, RETRANSMITTING, MOST_RETRANSMITS, LINE, PEERS = range(9)


def incoming(rows: Rows, listening: "set[int]") -> "list[bool]":
    """Of each socket, whether its peer came to a service here.

    It did where somebody listens on the local port; where nobody does (any more), the service's is the port that more
    sockets share, and the lower one of two that as many do.
    """
    locals_, peers = Counter(rows.local_ports), Counter(rows.peer_ports)
    pairs = zip(rows.local_ports, rows.peer_ports)
    return [local in listening or (locals_[local], -local) > (peers[peer], -peer) for local, peer in pairs]


NOBODY = -1
# Of more peers than this only those with most sockets have flows of their own: each flow takes some 300 bytes.
MOST_PEERS = 50000


def small_peers(rows: Rows, most: int) -> "bytearray":
    """Of each address 1 if, as a peer, it has too few sockets to be among the largest; empty where there is room."""
    if len(rows.addresses) <= most:
        return bytearray()
    sockets = array("I", bytes(4 * len(rows.addresses)))
    for peer in rows.peers:
        sockets[peer] += 1
    least = sorted(sockets, reverse=True)[most] + 1
    return bytearray(number < least for number in sockets)


def sum_up(
    rows: Rows, listening: "set[int]", most: int = MOST_PEERS
) -> "dict[tuple[bool, int, int, int, int, int], list[int]]":
    """Flows: by whether they come in, state, local address and port, peer's address and port, the numbers above.

    States and addresses are numbers of `rows.words` and `rows.addresses`; a port that each socket has for itself is 0.
    Of more than `most` peers the small ones are NOBODY together.
    """
    small = small_peers(rows, most)
    flows = {}  # type: dict[tuple[bool, int, int, int, int, int], list[int]]
    columns = zip(
        incoming(rows, listening), rows.states, rows.locals, rows.local_ports, rows.peers, rows.peer_ports,
        rows.recv_qs, rows.send_qs, rows.retransmits, rows.lines,
    )  # fmt: skip
    for comes, state, local, local_port, peer, peer_port, recv_q, send_q, retransmits, line in columns:
        folded = bool(small) and small[peer]
        there, its_port = (NOBODY, 0) if folded else (peer, 0 if comes else peer_port)
        key = (comes, state, local, local_port if comes else 0, there, its_port)
        flow = flows.get(key)
        if flow is None:
            flow = flows[key] = [0, 0, 0, 0, 0, 0, 0, line, 0 if folded else 1]
        if folded == 1:
            # Counted where it is met first, in one flow alone.
            flow[PEERS] += 1
            small[peer] = 2
        flow[SOCKETS] += 1
        if recv_q:
            flow[RECV_Q] += recv_q
            flow[WITH_RECV_Q] += 1
        if send_q:
            flow[SEND_Q] += send_q
            flow[WITH_SEND_Q] += 1
        if retransmits:
            flow[RETRANSMITTING] += 1
            flow[MOST_RETRANSMITS] = max(flow[MOST_RETRANSMITS], retransmits)
    return flows


def the_largest(
    flows: "dict[tuple[bool, int, int, int, int, int], list[int]]", most: int
) -> "tuple[list[tuple[tuple[bool, int, int, int, int, int], list[int]]], int, int]":
    """The largest flows first, `most` of them; the small ones become one for each state and service here.

    Then how many flows, with how many sockets, did not even fit so.
    """
    ordered = sorted(flows.items(), key=lambda item: -item[1][SOCKETS])
    if len(ordered) <= most:
        return ordered, 0, 0
    kept, small = ordered[: most // 2], ordered[most // 2 :]
    merged = {}  # type: dict[tuple[bool, int, int, int, int, int], list[int]]
    for key, flow in small:
        _merge(merged, key[:4] + (NOBODY, 0), flow)
    others = sorted(merged.items(), key=lambda item: -item[1][SOCKETS])
    rest = others[most - len(kept) :]
    return kept + others[: most - len(kept)], len(rest), sum(flow[SOCKETS] for _, flow in rest)


def _merge(merged: "dict", key: "tuple", flow: "list[int]") -> None:  # type: ignore[type-arg]
    into = merged.get(key)
    if into is None:
        merged[key] = list(flow)
        return
    for place in (SOCKETS, RECV_Q, SEND_Q, WITH_RECV_Q, WITH_SEND_Q, RETRANSMITTING, PEERS):
        into[place] += flow[place]
    into[MOST_RETRANSMITS] = max(into[MOST_RETRANSMITS], flow[MOST_RETRANSMITS])
