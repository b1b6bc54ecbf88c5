"""The table of a firewall's connections, summed up: by protocol, state, where they go, and what address it sees."""

import time

TABLE = "/proc/self/net/nf_conntrack"
STATISTICS = "/proc/self/net/stat/nf_conntrack"
TABLE_PATIENCE = 2.0

ENTRIES, TRACKED_LINE, UNANSWERED = range(3)


class Tracked:
    """Entries that are added one by one."""

    def __init__(self) -> None:
        self.total = 0
        self.states = {}  # type: dict[str, int]
        self.flows = {}  # type: dict[tuple[str, ...], list[int]]
        self._sources = {}  # type: dict[tuple[str, ...], set[str]]
        self._ports = {}  # type: dict[tuple[str, ...], set[str]]

    def add(self, line: str, number: int = 0) -> bool:
        """One line of /proc/net/nf_conntrack or `conntrack -L`; whether it is one."""
        words = line.split()
        pairs = [word.partition("=")[::2] for word in words if "=" in word]
        first = dict(reversed(pairs[: _second(pairs)]))
        second = dict(reversed(pairs[_second(pairs) :]))
        if "src" not in first or "dst" not in first or "dst" not in second:
            return False
        protocol = next((word for word in words if word in PROTOCOLS), "other")
        state = next((word for word in words if word.isupper() and word.replace("_", "").isalpha()), "")
        seen_as = second["dst"] if second["dst"] != first["src"] else ""
        answers = second["src"] if second.get("src") != first["dst"] else ""
        answers_port = second.get("sport", "0") if answers else "0"
        key = (protocol, state, first["dst"], first.get("dport", "0"), seen_as, answers, answers_port)
        self._count(key, number, "[UNREPLIED]" in words)
        self._sources.setdefault(key, set()).add(first["src"])
        if seen_as:
            self._ports.setdefault(key, set()).add(second.get("dport", "0"))
        return True

    def _count(self, key: "tuple[str, ...]", number: int, unanswered: bool) -> None:
        self.total += 1
        self.states[key[1] or key[0]] = self.states.get(key[1] or key[0], 0) + 1
        flow = self.flows.setdefault(key, [0, number, 0])
        flow[ENTRIES] += 1
        flow[UNANSWERED] += unanswered

    def largest(self, most: int) -> "list[tuple[tuple[str, ...], list[int], int, int]]":
        """The largest flows: the key, the numbers, how many sources, how many ports of the address that is seen."""
        ordered = sorted(self.flows.items(), key=lambda item: -item[1][ENTRIES])[:most]
        return [(key, flow, len(self._sources[key]), len(self._ports.get(key, ()))) for key, flow in ordered]


PROTOCOLS = ("tcp", "udp", "icmp", "icmpv6", "sctp", "dccp", "gre", "unknown")


def _second(pairs: "list[tuple[str, str]]") -> int:
    """Where the tuple of the answers begins: at the second src."""
    places = [place for place, (name, _) in enumerate(pairs) if name == "src"]
    return places[1] if len(places) > 1 else len(pairs)


def tracked_table() -> "Tracked | None":
    """The table, as far as the time reaches; None where this user may not read it, or there is none."""
    until = time.monotonic() + TABLE_PATIENCE
    table = Tracked()
    try:
        with open(TABLE) as lines:
            for line in lines:
                table.add(line)
                if table.total % 1000 == 0 and time.monotonic() > until:
                    break
    except OSError:
        return None
    return table


def tracked_statistics(printed: str) -> "dict[str, int]":
    """The format of /proc/net/stat/nf_conntrack: a line of names, then hexadecimal values for each processor."""
    lines = printed.splitlines()
    if not lines:
        return {}
    header = lines[0].split()
    sums = dict.fromkeys(header, 0)
    for line in lines[1:]:
        for name, value in zip(header, line.split()):
            # Not a counter, and the same in each line.
            sums[name] = int(value, 16) if name == "entries" else sums[name] + int(value, 16)
    return sums
