"""Who is left with the TIME-WAIT of an nginx's connections, and connections over which nothing is said any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.observe import count, sockets
from harness.traffic.browser import Browser
from harness.traffic.nginx import Nginx
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Host

HOUR = 3600


def browse(client: Host, nginx: Nginx, requests: int) -> int:
    """Make so many requests as a browser does, and close; how many connections they took."""
    browser = Browser(client, nginx)
    browser.ask(requests)
    browser.close()
    return browser.connections


def time_wait_left(client: Host, nginx: Nginx) -> dict[str, int]:
    """How many TIME-WAIT of an nginx's connections with a client are where, once all connections have ended."""
    until(lambda: not count(client, f"exclude time-wait dport = :{nginx.port}"), what="the last connections to end")
    at_the_server = sockets(nginx.host, f"state time-wait sport = :{nginx.port}", family=client.family)
    return {
        "server": sum(end.remote[0] == client.ip for end in at_the_server),
        "client": count(client, f"state time-wait dport = :{nginx.port}"),
    }


def fall_silent(client: Host, server: Host, listening: str) -> Browser:
    """A browser that has had one answer, of an nginx of its own that lets it idle for longer than the kernel does."""
    browser = Browser(client, Nginx(server, listening, keepalive=24 * HOUR), patience=3 * HOUR)
    browser.ask()
    browser.settle()
    return browser


def known(browser: Browser) -> int:
    """How many connections the server thinks it has with a browser of its own."""
    return count(browser.nginx.host, f"state established sport = :{browser.nginx.port}")
