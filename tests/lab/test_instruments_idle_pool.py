"""A pool that was idle: what a server has taken before the patience is over is counted by its answer, however late."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from harness.errors import NotReady
from harness.instruments import idle_pool
from harness.instruments.between import chains, watch
from harness.instruments.idle_pool import QUERY, Asked, ask_after_pause
from harness.instruments.silent_server import Patience
from harness.traffic import listen
from harness.waiting import let_pass

if TYPE_CHECKING:
    from harness.lab import Lab, Pair

REMEMBERS = 1  # seconds


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


def through_a_firewall(lab: Lab, *, put_off: int, remembers: int = REMEMBERS) -> tuple[Asked, int]:
    """A pool of three whose server puts so many answers off for longer than the firewall remembers; how many it got."""
    (chain,) = chains(lab, 1)
    watch(chain.between, remembers=remembers)
    requests: list[bytes] = []

    def answer(request: bytes) -> bytes:
        requests.append(request)
        if len(requests) <= put_off:
            let_pass(3 * REMEMBERS, what="a firewall to forget")
        return request

    pools = {chain.client: (listen(chain.server, answer=answer), Patience())}
    asked = ask_after_pause(pools, 3, pause=3 * REMEMBERS, patience=0.5)
    return asked[chain.client], len(requests)


def test_a_pool_that_is_forgotten_in_its_first_use_is_begun_anew(lab: Lab) -> None:
    asked, requests = through_a_firewall(lab, put_off=1)
    assert asked == Asked(answered=0, told=0, hang=3)
    # Three whose answers are dropped, and three of the pool that is idle then; more if the machine was put off itself.
    assert requests >= 6


def test_a_pool_that_is_remembered_is_begun_once(lab: Lab) -> None:
    # A request for each connection before the pause, and a request after it.
    assert through_a_firewall(lab, put_off=0, remembers=3600) == (Asked(answered=3, told=0, hang=0), 6)


def test_a_server_that_always_answers_too_late_ends_the_attempts(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_pool, "ALL_FIRST_USES", 1)
    with pytest.raises(NotReady, match="pools of which each connection is answered at once"):
        through_a_firewall(lab, put_off=1000)
