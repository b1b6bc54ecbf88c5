"""A server that is busy, and now and then takes all that waits at it; clients ask it again as soon as it has answered.

Nothing is dropped but by the kernel. How much is served does not depend on how fast the machine is: before each turn
the queue is waited for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness.observe import counters
from harness.traffic import connect
from harness.traffic.connector import DATA, learn
from harness.waiting import let_pass, until

if TYPE_CHECKING:
    from harness.lab import Host
    from harness.traffic import Attempts, Listener

ANSWER = b"served"
# Of a machine that is ten times as slow. A deadline measures nothing.
DEADLINE = 60.0


class Served(NamedTuple):
    """How many answers the clients got in all, and how often one of them had to send its SYN again."""

    answers: int
    repeated: int


def serve_in_turns(client: Host, listener: Listener, clients: int, *, turns: int, busy: float) -> Served:
    """So many clients ask a server that accepts in `turns`, all that wait each time, and is busy before each.

    `busy` is in seconds. A client that has its answer connects again at once.
    """
    before = counters(client)
    asking = connect(client, listener, clients)
    answers = 0
    for _ in range(turns):
        let_pass(busy, what="the server to be busy")
        answered = _take_turn(listener, min(clients, listener.limit + 1))
        answers += answered
        _ask_again(asking, listener, answered)
    asking.close()
    # Not RetransSegs: a client that ends may send its FIN again (tail loss probe), which says nothing of the queue.
    return Served(answers, (counters(client) - before).TcpExt.TCPSynRetrans)


def _take_turn(listener: Listener, least: int) -> int:
    """Wait until at least so many wait, and answer all that do then; how many."""
    until(lambda: listener.waiting >= least, deadline=DEADLINE, what=f"{least} clients that wait")
    accepted = listener.accept(listener.waiting)
    for end in accepted:
        end.send(ANSWER)
        end.close()
    listener.accepted.clear()
    return len(accepted)


def _ask_again(asking: Attempts, listener: Listener, answered: int) -> None:
    """Wait until so many clients have read their answer, and connect those again."""
    done: set[int] = set()

    def all_done() -> bool:
        done.update(i for i, each in enumerate(asking) if i not in done and learn(each.socket) == DATA)
        return len(done) >= answered

    until(all_done, deadline=DEADLINE, what=f"{answered} clients to have an answer")
    for i in done:
        asking[i].socket.close()
        asking.each[i] = connect(asking.host, listener)[0]
