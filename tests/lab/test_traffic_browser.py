"""A browser keeps its connection to nginx for as long as nginx keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import ProgramFailed
from harness.instruments.keepalive import browse, fall_silent, known, time_wait_left
from harness.observe import count
from harness.traffic import listen
from harness.traffic.browser import Browser
from harness.traffic.nginx import Nginx

if TYPE_CHECKING:
    from harness.lab import Pair


def test_one_connection_for_many_requests(pair: Pair) -> None:
    nginx = Nginx(pair.server, "8001")
    assert browse(pair.client, nginx, 5) == 1
    assert time_wait_left(pair.client, nginx) == {"server": 0, "client": 1}


def test_as_many_connections_as_nginx_wants(pair: Pair) -> None:
    nginx = Nginx(pair.server, "8001", keepalive_requests=2)
    assert browse(pair.client, nginx, 5) == 3
    assert time_wait_left(pair.client, nginx) == {"server": 2, "client": 1}


def test_nginx_ends_what_is_idle(pair: Pair) -> None:
    browser = Browser(pair.client, Nginx(pair.server, "8001", keepalive=1))
    browser.ask()
    browser.wait_for_end()
    browser.ask()
    assert browser.connections == 2


def test_a_silent_browser_is_known(pair: Pair) -> None:
    silent = fall_silent(pair.client, pair.server, "8001 so_keepalive=on")
    assert known(silent) == 1
    assert count(pair.server, "state established sport = :8001") == 1
    silent.close()


def test_what_is_no_answer_of_nginx(pair: Pair) -> None:
    nginx = Nginx(pair.server, "8001")
    other = listen(pair.server, answer=lambda _: b"HTTP/1.1 200 OK\r\n\r\nok, and more")
    nginx.port = other.port
    browser = Browser(pair.client, nginx, patience=2)
    with pytest.raises(TimeoutError):
        browser.ask()
    other.close()
    with pytest.raises(ProgramFailed, match="closed within an answer: b''"):
        browser.ask()


def test_nginx_does_not_end_what_is_asked_for(pair: Pair) -> None:
    nginx = Nginx(pair.server, "8001")
    browser = Browser(pair.client, nginx, patience=2)
    browser.ask()
    with pytest.raises(TimeoutError):
        browser.wait_for_end()
    other = listen(pair.server, answer=lambda _: b"\r\n\r\nok")
    nginx.port = other.port
    unasked = Browser(pair.client, nginx)
    unasked.ask()
    other.accepted[0].sendall(b"more")
    with pytest.raises(ProgramFailed, match="said b'more' in place of closing"):
        unasked.wait_for_end()
