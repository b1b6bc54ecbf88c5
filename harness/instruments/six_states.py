"""A server with sockets in every state that lasts, for those who count them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.observe import tally
from harness.traffic import RawPeer, connect, listen
from harness.traffic.closing import leave_time_wait
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Pair
    from harness.traffic import Listener

# How many of each, as ss names them.
SIX_STATES = {"LISTEN": 1, "SYN-RECV": 2, "TIME-WAIT": 4, "CLOSE-WAIT": 1, "FIN-WAIT-2": 1, "ESTAB": 4}
UNREAD = b"unread"
# Of a machine that is ten times as slow: a deadline, not a measurement.
DEADLINE = 60.0


def six_states(pair: Pair, port: int = 443) -> Listener:
    """Bring the server's sockets into SIX_STATES at one port; its listener.

    Of the established connections three wait to be accepted, and the last that was accepted has UNREAD to read.
    NotReady after a minute.
    """
    listener = listen(pair.server, 10, port=port)
    RawPeer(pair.server, pair.client).half_open(listener, 2)
    leave_time_wait(pair.client, listener, 4, closer="server", deadline=DEADLINE)
    clients = [connect(pair.client, listener, wait=True, deadline=DEADLINE)[0].socket for _ in range(6)]
    _, closes, _ = listener.accept(3, deadline=DEADLINE)
    clients[0].close()
    closes.close()
    clients[2].send(UNREAD)
    until(lambda: tally(pair.server) == SIX_STATES, deadline=DEADLINE, what=f"the sockets {SIX_STATES}")
    return listener
