"""Requests that several proxies pass on to a server that has just closed their connections."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from harness.observe import states_at
from harness.traffic import hold
from harness.waiting import let_pass, until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.instruments.proxy import Proxy
    from harness.lab import Host

# Seconds; the server keeps a connection for one.
LATE = 1.5


def ask_late_together(client: Host, proxies: Sequence[Proxy]) -> None:
    """A POST through each proxy; then a late one through each, one after the other at once, which the server refuses.

    So the counters of the server move by more than one within any two looks at it.
    """
    server = proxies[0].server
    until(lambda: set(states_at(server.host, server.port)) <= {"TIME-WAIT"}, what="what was before to end")
    with contextlib.ExitStack() as held:
        for proxy in proxies:
            held.enter_context(hold(proxy.nginx.host, "FA", sport=server.port))
        assert [each.ask(client) for each in proxies] == [200] * len(proxies)
        let_pass(LATE, what="the connections to be idle")
        until(lambda: all(proxy.is_closed() for proxy in proxies), what="the server to close them")
        assert [each.ask(client) for each in proxies] == [502] * len(proxies)
