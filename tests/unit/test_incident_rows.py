"""Very many sockets in little memory: what is summed up, and what becomes of those that are few."""

from __future__ import annotations

from harness.incident.collector.rows import NOBODY, PEERS, SOCKETS, Rows, sum_up, the_largest


def many() -> Rows:
    """A thousand clients with a connection each, and one destination with three hundred, the last of all."""
    rows = Rows()
    for number in range(1000):
        client = (f"10.1.{number >> 8}.{number & 255}", 40000 + number)
        rows.add("ESTAB", ("10.0.0.1", 80), client, (0, 0), line=number + 1)
    for number in range(300):
        rows.add("TIME-WAIT", ("10.0.0.1", 33000 + number), ("10.0.0.9", 5432), (0, 0), line=1001 + number)
    return rows


def test_each_peer_has_a_flow_where_there_is_room() -> None:
    assert len(sum_up(many(), {80})) == 1001


def test_of_very_many_peers_the_small_are_one() -> None:
    rows = many()
    flows = sum_up(rows, {80}, most=10)
    assert len(flows) == 2
    large, folded = sorted(flows.items(), key=lambda item: item[1][SOCKETS])
    assert (rows.addresses[large[0][4]], large[0][5], large[1][SOCKETS]) == ("10.0.0.9", 5432, 300)
    assert (folded[0][4], folded[1][SOCKETS], folded[1][PEERS]) == (NOBODY, 1000, 1000)
    assert the_largest(flows, 5)[1:] == (0, 0)
