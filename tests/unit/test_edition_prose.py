"""Measured values in a sentence: each kind as a reader would write it, several runs as median and range."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest

from harness.evidence.kinds import drawn, output, port, seconds, size, state, ticks
from harness.evidence.types import wanted_of
from harness.evidence.values import value_of
from harness.laws.queues import Knobs
from harness.laws.ranges import AtLeast, AtMost, Between, OneOf
from harness.report.edition.model import Range
from harness.report.edition.prose import capital, differs, exists, in_words, label, sentence, tell, tell_all, title

Counts = namedtuple("Counts", "kept cookies dropped")


@pytest.mark.parametrize(
    ("measured", "told"),
    [
        (8, "8"),
        (60009, "60009"),
        (2466193, "2,466,193"),
        (89.24, "89.2"),
        (value_of(12, "sockets"), "12 sockets"),
        (seconds(60.587), "60.6 s"),
        (seconds(127.3), "127 s"),
        (seconds(0.2041), "204 ms"),
        (seconds(0.000147), "147 µs"),
        (seconds(0.0), "0 s"),
        (seconds([60.587, 61.001]), "60.6 to 61 s"),
        (ticks(500), "500"),
        (size(256), "256 bytes"),
        (size(27 << 20), "27.0 MiB"),
        (port(60000), "60000"),
        (port([60000, 60001, 60002, 60009]), "60000 to 60002 and 60009"),
        (drawn(7), "7"),
        (state("TIME-WAIT"), "TIME-WAIT"),
        (state(["ESTAB", "ESTAB", "ESTAB"]), "ESTAB (3 times)"),
        (output("net.core.somaxconn = 5\n"), "`net.core.somaxconn = 5`"),
        ("", "nothing"),
        (b"", "nothing"),
        ("SA", "SYN-ACK"),
        (True, "yes"),
        (None, "nothing"),
        ([], "none"),
        ({}, "none"),
        ([2, 5], "2 and 5"),
        ([200, 200, 200], "200 (3 times)"),
        (["connected"] * 10 + ["EADDRNOTAVAIL"], "connected (10 times) and EADDRNOTAVAIL"),
        (Counts(8, 0, 9), "kept 8, cookies 0, dropped 9"),
        ({"TcpExt.ListenDrops": 9}, "ListenDrops 9"),
        ([{"state": "LISTEN", "recv_q": 0, "send_q": 10}], "LISTEN with Recv-Q 0 and Send-Q 10"),
        ([{"state": "LISTEN"}] * 13, "13"),
        ("Knobs(backlog=7, tcp_syncookies=0): full", "backlog = 7, tcp_syncookies = 0: full"),
        ("x" * 200, "x" * 119 + "…"),
    ],
)
def test_a_value_is_told_as_a_reader_writes_it(measured: Any, told: str) -> None:
    assert tell(value_of(measured)) == told


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (Between(59.5, 62), "59.5 to 62"),
        (Between(5, 5), "5"),
        (AtLeast(10000), "at least 10000"),
        (AtMost(3), "at most 3"),
        (OneOf(2, 3, 5), "2, 3 or 5"),
    ],
)
def test_a_range_is_told_in_words(wanted: object, told: str) -> None:
    assert tell(wanted_of(wanted)) == told


def test_several_runs_are_told_once_or_as_median_and_range() -> None:
    assert tell_all([value_of(11)] * 3) == "11"
    assert tell_all(list(map(value_of, (1052, 1076, 1060)))) == "1060 (median of 3 runs; 1052 to 1076)"
    times = [value_of(seconds(each)) for each in (1.005, 1.029, 1.012)]
    assert tell_all(times) == "1.01 s (median of 3 runs; 1 to 1.03 s)"
    lifetimes = [value_of(seconds(list(each))) for each in ((60.6, 61.0), (60.5, 60.9))]
    assert tell_all(lifetimes) == "60.5 to 61 s"
    assert tell_all([value_of("one"), value_of("another")]) == "one"


def test_what_each_run_draws_for_itself_is_told_from_what_is_measured() -> None:
    assert differs([value_of(drawn(1)), value_of(drawn(2))])
    assert differs([value_of(port([1, 2])), value_of(port([3, 4]))])
    assert not differs([value_of(port(80)), value_of(port(80))])
    assert not differs([value_of(1), value_of(2)])


def test_labels_lose_the_unit_that_the_value_has() -> None:
    took = [value_of(seconds(1.0))]
    assert label("connect() takes, in seconds", took) == "connect() takes"
    assert label("3 retries: seconds", took) == "3 retries"
    assert label("seconds", [value_of(3)]) == "seconds"


def test_titles_count_one_in_the_singular() -> None:
    assert title("1 SYNs at a full queue") == "1 SYN at a full queue"
    assert title("tcp_syncookies 1, 1 young requests") == "tcp_syncookies 1, 1 young request"
    assert title("lifetime, 1 retries") == "lifetime, 1 retry"
    assert title("11 connections wait") == "11 connections wait"
    assert title(f"{Knobs(7, tcp_syncookies=0)}: full").startswith("backlog = 7, somaxconn = 4096,")


def test_sentences_begin_with_a_capital_unless_a_name_does() -> None:
    assert sentence("it is 4096") == "It is 4096."
    assert sentence("is that so?") == "Is that so?"
    for text in ("nginx asks", "tcp_fin() leaves", "listen() reads", "ss prints"):
        assert capital(text) == text


@pytest.mark.parametrize(
    ("first", "end", "words"),
    [
        ("", "", ""),
        ("5.4", "", "since 5.4"),
        ("", "3.1", "before 3.1"),
        ("4.19", "6.14", "from 4.19 to 6.13"),
        ("5.10", "5.10.234", "from 5.10 to 5.10.233"),
        ("4.10", "4.11", "in 4.10"),
        ("5.2.19", "5.2.20", "in 5.2.19"),
        ("5.10.234", "5.11", "in 5.10 since 5.10.234"),
        ("6.5", "7.0", "from 6.5 to 6.19"),
    ],
)
def test_a_range_of_kernels_ends_with_the_last_that_is_in_it(first: str, end: str, words: str) -> None:
    assert in_words(Range(first, end)) == words


def test_a_minor_number_that_never_was_is_no_range() -> None:
    assert not exists(Range("6.20", "7.0"))
    assert all(exists(Range(first, "")) for first in ("", "6.19", "7.2", "4.20"))
