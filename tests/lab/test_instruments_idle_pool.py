"""A pool that was idle: what a server has taken before the patience is over is counted by its answer, however late."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from harness.instruments.idle_pool import QUERY, Asked, ask_after_pause
from harness.instruments.silent_server import Patience
from harness.traffic import listen

if TYPE_CHECKING:
    from harness.lab import Pair


def test_an_answer_that_is_being_made_is_waited_for(pair: Pair) -> None:
    put_off = threading.Event()

    def answer(request: bytes) -> bytes:
        if request == QUERY:
            threading.Timer(1, put_off.set).start()
            put_off.wait(20)
        return request

    pools = {pair.client: (listen(pair.server, answer=answer), Patience())}
    # One connection: nothing else waits in a receive queue meanwhile.
    assert ask_after_pause(pools, 1, pause=0.1, patience=0.1) == {pair.client: Asked(answered=1, told=0, hang=0)}
    assert put_off.is_set()
