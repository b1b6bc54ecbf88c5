"""What a connect() costs the processor."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.lab import Host
    from harness.traffic import Listener


def connect_seconds(client: Host, listener: Listener, times: int = 41) -> float:
    """The median processor time of a connect() call, in seconds, with the handshake that it sets off."""
    spent = []
    for _ in range(times):
        with client.socket() as connecting:
            before = time.thread_time()
            connecting.connect(listener.address)
            spent.append(time.thread_time() - before)
            (accepted,) = listener.accept(deadline=60)
            accepted.close()
        listener.accepted.clear()
    return statistics.median(spent)
