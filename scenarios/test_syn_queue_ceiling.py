"""How many requests fit into the SYN queue: which settings decide, and which do not."""

from __future__ import annotations

import random
from itertools import product
from typing import TYPE_CHECKING

import pytest

from harness.errors import Unsupported
from harness.instruments.accept_queue import come_one_by_one, room
from harness.instruments.slabs import CHILD_EHASH
from harness.instruments.syn_queue import MAX_SYN_BACKLOG, ceiling, flooded, listening, set_knobs
from harness.laws import before, since
from harness.laws.queues import Knobs
from harness.laws.ranges import at_least

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair

SETTINGS = [
    Knobs(backlog=1000, somaxconn=4096, tcp_max_syn_backlog=128, tcp_syncookies=0),
    Knobs(backlog=128, somaxconn=4096, tcp_max_syn_backlog=512, tcp_syncookies=0),
    Knobs(backlog=511, somaxconn=128, tcp_max_syn_backlog=512, tcp_syncookies=0),
    Knobs(backlog=511, somaxconn=128, tcp_max_syn_backlog=512, tcp_syncookies=1),
    Knobs(backlog=10, somaxconn=4096, tcp_max_syn_backlog=512, tcp_syncookies=0),
    Knobs(backlog=10, somaxconn=4096, tcp_max_syn_backlog=512, tcp_syncookies=1),
    Knobs(backlog=300, somaxconn=200, tcp_max_syn_backlog=64, tcp_syncookies=1),
    Knobs(backlog=128, somaxconn=4096, tcp_max_syn_backlog=512, tcp_syncookies=2),
]


@pytest.mark.claim("syn-queue.not-max-syn-backlog-alone")
def test_not_max_syn_backlog_alone(claim: ClaimRun, pair: Pair) -> None:
    for knobs in SETTINGS:
        with claim.effect(f"{knobs}: 600 SYNs") as effect:
            measured = flooded(pair.client, listening(pair.server, knobs), 600)
            effect.compare("it is tcp_max_syn_backlog", measured == knobs.tcp_max_syn_backlog, document=False)
            effect.note("half-open", measured)
    law: list[tuple[float, float]] = []
    with claim.control("cookies off, backlog and somaxconn out of the way: nothing else decides") as control:
        for max_syn_backlog in (4, 128, 512):
            knobs = Knobs(4096, 4096, max_syn_backlog, tcp_syncookies=0)
            measured = flooded(pair.client, listening(pair.server, knobs), 600)
            control.expect(f"half-open, tcp_max_syn_backlog {max_syn_backlog}", measured, ceiling(knobs))
            law.append((max_syn_backlog, measured))
        control.series("half-open", law, x="tcp_max_syn_backlog", unit="requests")


@pytest.mark.claim("syn-queue.half-of-512")
def test_half_of_512(claim: ClaimRun, pair: Pair) -> None:
    with claim.effect("somaxconn 128 and nginx's 511, as they were by default; tcp_max_syn_backlog 512") as effect:
        knobs = Knobs(511, somaxconn=128, tcp_max_syn_backlog=512, tcp_syncookies=0)
        measured = flooded(pair.client, listening(pair.server, knobs), 600)
        effect.compare("half-open, of 600", measured, document=256, kernel=ceiling(knobs))
    with claim.control("the same, and somaxconn and the backlog out of the way") as control:
        knobs = Knobs(4096, somaxconn=4096, tcp_max_syn_backlog=512, tcp_syncookies=0)
        measured = flooded(pair.client, listening(pair.server, knobs), 600)
        control.expect("half-open, of 600", measured, 512 - 512 // 4 + 1)


@pytest.mark.claim("syn-queue.max-syn-backlog-governs")
def test_max_syn_backlog_governs(claim: ClaimRun, pair: Pair) -> None:
    def longest(max_syn_backlog: int, cookies: int) -> int:
        knobs = Knobs(200, tcp_max_syn_backlog=max_syn_backlog, tcp_syncookies=cookies)
        return flooded(pair.client, listening(pair.server, knobs), 600)

    settings = (64, 512, 4096)
    with claim.effect("backlog 200, cookies on, as by default; tcp_max_syn_backlog 64, 512 and 4096") as effect:
        lengths = [longest(setting, 1) for setting in settings]
        effect.series("half-open", list(zip(settings, lengths, strict=True)), x="tcp_max_syn_backlog", unit="requests")
        several = at_least(2) if before("syn-queue-follows-the-backlog") else 1
        effect.compare("different lengths", len(set(lengths)), document=at_least(2), kernel=several)
    with claim.control("the same, cookies off") as control:
        lengths = [longest(setting, 0) for setting in settings]
        control.expect("half-open, tcp_max_syn_backlog 64", lengths[0], 64 - 64 // 4 + 1)
        control.expect("different lengths", len(set(lengths)), 2)


@pytest.mark.claim("syn-queue.max-syn-backlog-default")
def test_max_syn_backlog_default(claim: ClaimRun, pair: Pair) -> None:
    def with_table(slots: int) -> Host:
        """A host whose table of connections has so many slots."""
        pair.server.sysctl[CHILD_EHASH] = slots
        with pair.server:
            return pair.server.lab.host(f"table{slots}")

    # Where all share the machine's table, tcp_max_tw_buckets is half of its slots (net/ipv4/tcp_ipv4.c, tcp_sk_init()).
    of_the_machine = {2 * int(pair.server.sysctl["net.ipv4.tcp_max_tw_buckets"]): pair.server}
    own = CHILD_EHASH in pair.server.sysctl
    hosts = {slots: with_table(slots) for slots in (4096, 65536, 262144)} if own else of_the_machine
    share = 128 if since("max-syn-backlog-is-a-128th") else 256
    for slots, host in hosts.items():
        default = max(128, slots // share)
        if default == 512 and not own:
            raise Unsupported(f"this machine's table has {slots} slots, for which the default is 512 by chance")
        with claim.effect(f"a table of connections with {slots} slots") as effect:
            effect.compare("tcp_max_syn_backlog", int(host.sysctl[MAX_SYN_BACKLOG]), document=512, kernel=default)
    with claim.control("set to 300: the number that is read is the one that counts") as control:
        knobs = Knobs(4096, tcp_max_syn_backlog=300, tcp_syncookies=0)
        measured = flooded(pair.client, listening(pair.server, knobs), 600)
        control.expect("half-open, of 600", measured, 300 - 300 // 4 + 1)


@pytest.mark.claim("syn-queue.ceiling-is-accept-ceiling")
def test_ceiling_is_accept_ceiling(claim: ClaimRun, pair: Pair) -> None:
    law: dict[int, list[tuple[float, float]]] = {0: [], 1: []}
    for limit, cookies in product((1, 10, 128), (0, 1)):
        knobs = Knobs(backlog=limit, tcp_syncookies=cookies)
        with claim.effect(f"backlog {limit}, tcp_syncookies {cookies}: as many of each as come") as effect:
            accepted = come_one_by_one(pair.client, listening(pair.server, knobs), limit + 5)
            effect.note("waiting for accept()", accepted)
            measured = flooded(pair.client, listening(pair.server, knobs), limit + 50)
            effect.compare("half-open", measured, document=accepted, kernel=ceiling(knobs))
            law[cookies].append((limit, measured))
            effect.series(f"half-open, tcp_syncookies {cookies}", law[cookies], x="backlog", unit="requests")
    with claim.control("a longer accept queue than the last quarter of tcp_max_syn_backlog allows") as control:
        knobs = Knobs(300, tcp_max_syn_backlog=128, tcp_syncookies=0)
        accepted = come_one_by_one(pair.client, listening(pair.server, knobs), 305)
        control.expect("waiting for accept()", accepted, at_least(300))
        control.expect("half-open", flooded(pair.client, listening(pair.server, knobs), 350), 97)


# Where the last quarter of tcp_max_syn_backlog begins, whatever is left over when that is divided by four; and where it
# and the accept queue's ceiling meet, one below, at and one above.
QUARTERS = (1, 2, 3, 4, 5, 6, 7, 8, 127, 128, 255, 256)
MEETING = [(96, 127), (96, 128), (97, 128), (98, 128), (95, 127)]
AT_THE_QUARTER = [
    *(Knobs(300, 300, most, 0) for most in QUARTERS),
    *(Knobs(backlog, 4096, most, 0) for backlog, most in MEETING),
]


def drawn(n: int) -> list[Knobs]:
    """Settings drawn at random, the same each time; the ends of each range are drawn as often as all between them."""
    chance = random.Random(1)

    def some(least: int, most: int) -> int:
        return chance.choice((least, chance.randint(least, most), chance.randint(least, most), most))

    # With 2 no request is ever kept, whatever the rest is.
    return [Knobs(some(0, 300), some(0, 300), some(1, 600), chance.choice((0, 0, 0, 1, 1, 2))) for _ in range(n)]


@pytest.mark.slow(20)
def test_ceilings_follow_the_model(pair: Pair) -> None:
    """Both queues, under settings at the ends of the rules and others drawn at random, against harness.laws.queues."""
    for knobs in (*AT_THE_QUARTER, *drawn(43)):
        try:
            predicted = room(knobs), ceiling(knobs)
            with listening(pair.server, knobs) as listener:
                waits = come_one_by_one(pair.client, listener, predicted[0] + 3)
            with listening(pair.server, knobs) as listener:
                assert (waits, flooded(pair.client, listener, predicted[1] + 20)) == predicted
        except Exception as error:
            error.add_note(f"with {knobs}")
            raise


# What makes it longer


NAMES = ("backlog", "somaxconn", "tcp_max_syn_backlog")
NONE_RAISED, ALL_RAISED = (False, False, False), (True, True, True)


def knobs_with(raised: tuple[bool, ...], cookies: int) -> Knobs:
    """All three knobs at 128, those that are raised at 512."""
    backlog, somaxconn, max_syn_backlog = (512 if each else 128 for each in raised)
    return Knobs(backlog, somaxconn, max_syn_backlog, cookies)


def compare_raised(claim: ClaimRun, pair: Pair, which: list[tuple[bool, ...]], cookies: int) -> None:
    """How long the SYN queue is with some of the knobs raised, beside none and all."""

    def measured(raised: tuple[bool, ...]) -> int:
        return flooded(pair.client, listening(pair.server, knobs_with(raised, cookies)), 600)

    with claim.control(f"tcp_syncookies {cookies}: all three at 128, and then at 512") as control:
        short, long = measured(NONE_RAISED), measured(ALL_RAISED)
        control.expect("half-open more with all three raised", long - short, at_least(128))
    bars: list[tuple[str, float]] = [("nothing", short), ("all", long)]
    with claim.effect(f"tcp_syncookies {cookies}: raised from 128 to 512") as effect:
        for raised in which:
            names = ", ".join(name for name, each in zip(NAMES, raised, strict=True) if each)
            length, account = measured(raised), ceiling(knobs_with(raised, cookies))
            effect.compare(f"half-open, raised: {names}", length, document=short, kernel=account)
            bars.append((names.replace(", ", "\n"), length))
        effect.series(f"half-open, tcp_syncookies {cookies}", bars, x="raised from 128 to 512", unit="requests")


@pytest.mark.claim("syn-queue.grow-needs-all-three")
def test_grow_needs_all_three(claim: ClaimRun, pair: Pair) -> None:
    two_of_three = [raised for raised in product((False, True), repeat=3) if sum(raised) == 2]
    for cookies in (0, 1):
        compare_raised(claim, pair, two_of_three, cookies)


@pytest.mark.claim("syn-queue.max-syn-backlog-alone")
def test_max_syn_backlog_alone(claim: ClaimRun, pair: Pair) -> None:
    compare_raised(claim, pair, [(False, False, True)], cookies=0)


@pytest.mark.claim("syn-queue.max-syn-backlog-alone-with-cookies")
def test_max_syn_backlog_alone_with_cookies(claim: ClaimRun, pair: Pair) -> None:
    compare_raised(claim, pair, [(False, False, True)], cookies=1)


@pytest.mark.claim("syn-queue.resize-needs-listen")
def test_resize_needs_listen(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    # Before syn-queue-follows-the-backlog such a listener has a table of 512, and it is the other rule that counts.
    small, large = Knobs(512, 512, 256, 0), Knobs(512, 512, 512, 0)
    listener = listening(server, small)
    first = flooded(client, listener, 600)
    with claim.control("tcp_max_syn_backlog left at 256, and as many SYNs again") as control:
        control.expect("half-open after", flooded(client, listener, 600), first)
    with claim.effect("tcp_max_syn_backlog raised from 256 to 512 under the listener") as effect:
        set_knobs(server, large)
        effect.compare("half-open after", flooded(client, listener, 600), document=first, kernel=ceiling(large))


@pytest.mark.claim("syn-queue.limit-needs-listen")
def test_limit_needs_listen(claim: ClaimRun, pair: Pair) -> None:
    client, server = pair.client, pair.server
    with claim.effect("somaxconn raised from 128 to 512 under a listener") as effect:
        listener = listening(server, Knobs(512, 128, 4096, 0))
        first = flooded(client, listener, 600)
        set_knobs(server, Knobs(512, 512, 4096, 0))
        effect.compare("half-open after", flooded(client, listener, 600), document=first)
    with claim.control("listen() again") as control:
        listener.listen(512)
        control.expect("half-open more than before", flooded(client, listener, 600) - first, at_least(128))
        control.expect("Send-Q", listener.limit, 512)
    with claim.effect("somaxconn lowered from 100 to 20 under a listener") as effect:
        wide, narrow = Knobs(100, 100, 4096, 0), Knobs(100, 20, 4096, 0)
        listener = listening(server, wide)
        set_knobs(server, narrow)
        effect.compare("half-open", flooded(client, listener, 200), document=ceiling(wide))
    with claim.control("a listener that listens since then") as control:
        control.expect("half-open", flooded(client, listening(server, narrow), 200), ceiling(narrow))
