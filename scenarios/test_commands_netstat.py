"""The documents' lines with netstat, character for character, in the languages that net-tools speaks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import traffic, waiting
from harness.instruments.lifetimes import watch_orphan
from harness.instruments.one_moment import beside_count
from harness.instruments.programs import command
from harness.laws import queues
from harness.laws.kernel import running
from harness.laws.queues import Knobs
from harness.laws.ranges import at_least, between
from harness.observe import count, counters, half_open, shell
from harness.traffic import RawPeer, flood, listen
from harness.traffic.closing import churn, leave_time_wait
from scenarios.recipes import NETSTAT_AS_PRINTED

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.claims.phases import LivePhase
    from harness.claims.record import ClaimRun
    from harness.lab import Host, Pair

# Of a machine that is ten times as slow. A deadline measures nothing.
until = partial(waiting.until, deadline=60.0)
connect = partial(traffic.connect, deadline=60.0)
# So many others come and go together: churn().
AT_ONCE = 10
leave = partial(leave_time_wait, deadline=60.0)


def rises(claim: ClaimRun, host: Host, line: str, counter: str, disturb: Callable[[LivePhase, int], object]) -> None:
    """A line of `netstat -s` follows a counter, prints nothing as long as that is 0, and speaks other languages."""
    with claim.control("nothing has happened yet") as control:
        control.expect(counter, counters(host)[counter], 0)
        control.expect("lines printed", shell.printed(host, line), "")
    total = 0
    for n in (1, 7, 200):
        with claim.effect(f"{n} more") as effect:
            disturb(effect, n)
            total += n
            effect.compare(line, shell.number(host, line), document=total)
            effect.compare("by the kernel", counters(host)[counter], document=total)
    with claim.control("the same in Chinese, which net-tools does not speak, and in three that it does") as control:
        control.expect(line, shell.number(host, line, language="zh_CN"), total)
        # Where a translation has the words, grep does not find them: net-tools 1.60 had some; those of 2.10 are not in
        # use, because the English beside them has changed (f1f89328cccf "netstat -s reports negative octet counts").
        printed = {language: shell.number(host, line, language=language) for language in ("cs", "de", "ja")}
        control.expect("in Czech, German and Japanese: found, or not", set(printed.values()) - {0, total}, set())
        translated = {language: (shell.is_translated("net-tools", language), n) for language, n in printed.items()}
        control.note("printed", translated)


@pytest.mark.claim("commands.netstat-overflowed")
def test_netstat_overflowed(claim: ClaimRun, pair: Pair) -> None:
    listener = listen(pair.server, 2)
    late = RawPeer(pair.server, pair.client).connection(listener)
    late.syn(deadline=60)

    def refuse(phase: LivePhase, n: int) -> None:
        """A third ACK that comes when the accept queue is full, again and again."""
        if listener.waiting < 3:
            connect(pair.client, listener, 3, wait=True)
            until(lambda: listener.waiting == 3, what="a full accept queue")
        for _ in range(n):
            late.send("A")
        until(lambda: phase.delta(pair.server).TcpExt.ListenOverflows >= n, what=f"{n} refused")

    line = "netstat -s | grep overflowed"
    rises(claim, pair.server, line, "TcpExt.ListenOverflows", refuse)
    # A drop that is no overflow: the queue that is full is that of half-open requests.
    pair.server.sysctl["net.ipv4.tcp_syncookies"] = 0
    fit = queues.half_open(running(), Knobs(4, tcp_syncookies=0))
    with claim.control("5 SYNs that find no room in a full queue of half-open requests") as control:
        flood(pair.server, pair.client, listen(pair.server, 4), count=fit + 5).wait()
        until(lambda: control.delta(pair.server).TcpExt.ListenDrops >= 5, what="5 dropped")
        control.expect("ListenDrops", control.delta(pair.server).TcpExt.ListenDrops, 5)
        control.expect(line, shell.number(pair.server, line), 208)


@pytest.mark.claim("commands.netstat-syns-to-listen")
def test_netstat_syns_to_listen(claim: ClaimRun, pair: Pair) -> None:
    pair.server.sysctl["net.ipv4.tcp_syncookies"] = 0
    fit = queues.half_open(running(), Knobs(4, tcp_syncookies=0))

    def refuse(phase: LivePhase, n: int) -> None:
        # All at once: a request that is 7 s old makes room in a full queue.
        flood(pair.server, pair.client, listen(pair.server, 4), count=fit + n).wait()
        until(lambda: phase.delta(pair.server).TcpExt.ListenDrops >= n, what=f"{n} dropped")

    rises(claim, pair.server, 'netstat -s | grep "SYNs to LISTEN"', "TcpExt.ListenDrops", refuse)
    with claim.effect("the line of the other document, in single quotes") as effect:
        line = "netstat -s | grep 'SYNs to LISTEN'"
        effect.compare(line, shell.number(pair.server, line), document=208)


@pytest.mark.claim("commands.netstat-syn-recv")
def test_netstat_syn_recv(claim: ClaimRun, pair: Pair) -> None:
    server, line = pair.server, "netstat -natp | grep SYN_RECV | wc -l"
    # netstat -p looks at every open file of every process, which may take it a minute. Less than half full, a queue
    # keeps its requests until the last SYN-ACK (inet_connection_sock.c, reqsk_timer_handler()): here, for ten minutes.
    server.sysctl["net.core.somaxconn"] = 1024
    server.sysctl["net.ipv4.tcp_synack_retries"] = 10
    first, second = listen(server, 1024), listen(server, 1024)
    peer = RawPeer(server, pair.client)
    with claim.control("no request is half-open") as control:
        control.expect(line, shell.number(server, line), 0)
    for n in (1, 30, 256):
        with claim.effect(f"{n} requests half-open at one listener") as effect:
            peer.half_open(first, n - count(server, "state syn-recv"))
            until(lambda n=n: count(server, "state syn-recv") == n, what=f"{n} half-open")  # type: ignore[misc]
            effect.compare(line, shell.number(server, line), document=n)
    with claim.control("what else it counts: the requests of another listener, and a program of that name") as control:
        peer.half_open(second, 10)
        until(lambda: count(server, "state syn-recv") == 266, what="10 half-open at the other listener")
        control.expect(f"{line}, two listeners", shell.number(server, line), 266)
        control.expect("half-open at the first, by inet_diag", half_open(server, first.port), 256)
        interpreter, *arguments = command("listen_for_ever.py")
        namesake = server.lab.directory / "SYN_RECV"
        namesake.symlink_to(Path(interpreter).resolve())
        server.start(namesake, *arguments, ready=lambda: count(server, "state listening") == 3)
        control.expect(f"{line}, a program of that name listens", shell.number(server, line), 267)
    there = shell.is_translated("net-tools", "pt_BR")
    in_portuguese = f"in Brazilian Portuguese, translation {'' if there else 'not '}installed: SYN_RECEBIDO"
    with claim.control(in_portuguese) as control:
        # What is left is the program of that name.
        control.expect(line, shell.number(server, line, language="pt_BR"), 1 if there else 267)


@pytest.mark.claim("commands.netstat-as-printed")
def test_netstat_as_printed(claim: ClaimRun, pair: Pair) -> None:
    server, listener = pair.server, listen(pair.client, 200)
    with claim.effect("20 sockets in TIME-WAIT, counted with the quotes and the dash that are printed") as effect:
        leave(server, listener, 20)
        # A shell does not know these quotes, and wc takes the dash for the name of a file.
        printed, there = beside_count(server, lambda: shell.printed(server, NETSTAT_AS_PRINTED), "state time-wait")
        effect.compare("what is printed", printed, document=f"{there}\n", kernel="")
    with claim.control("the same line with plain ones") as control:
        plain = NETSTAT_AS_PRINTED.translate({ord("“"): '"', ord("”"): '"', ord("–"): "-"})
        printed, there = beside_count(server, lambda: shell.printed(server, plain), "state time-wait")
        control.expect("what is printed", printed, f"{there}\n")


@pytest.mark.claim("commands.netstat-time-wait")
def test_netstat_time_wait(claim: ClaimRun, pair: Pair) -> None:
    server, mended = pair.server, "netstat -ant | grep TIME_WAIT | wc -l"
    listener, left = listen(pair.client, 200), 0

    def counted(line: str = mended, wanted: str = "state time-wait", language: str | None = None) -> tuple[int, int]:
        """What a line counts, and how many there are at that moment."""
        return beside_count(server, lambda: shell.number(server, line, language=language), wanted)

    for n in (1, 20, 1000):
        with claim.effect(f"{n} sockets in TIME-WAIT") as effect:
            leave(server, listener, n - left)
            left = n
            number, there = counted()
            effect.premise("by inet_diag", there, between(1, n))
            effect.compare(mended, number, document=there)
    with claim.effect("1000 while other connections come and go") as effect, churn(server, listen(pair.client)):
        of_port = f"netstat -ant | grep ':{listener.port} ' | grep TIME_WAIT"
        looks: list[tuple[int, int]] = []
        lacking: list[int] = []
        beyond: list[int] = []

        def seen_enough() -> bool:
            before = effect.delta(server).Tcp.ActiveOpens
            rows, there = beside_count(
                server, lambda: shell.printed(server, of_port).splitlines(), f"state time-wait dport = :{listener.port}"
            )
            came = effect.delta(server).Tcp.ActiveOpens - before
            looks.append((len(rows), there))
            lacking.append(there - len(set(rows[:there])))
            beyond.append(len(rows) - there - came - AT_ONCE)
            return len(looks) >= 3 and came + before >= 100

        waiting.until(seen_enough, what="a hundred connections that come and go while it counts")
        effect.note("of their port, each time, and by inet_diag", looks)
        come = effect.delta(server).Tcp.ActiveOpens
        effect.premise("connections that came and went meanwhile", come, at_least(100))
        # At the end of the table the kernel finds its place again by counting from the beginning, and gives out the
        # last rows once more if there are more by then (tcp_seq_start(), tcp_get_idx()): ten more, or as many as come
        # while it counts, where it is put off.
        effect.compare("of the first thousand rows, missed or seen twice", max(lacking), document=0)
        effect.compare("rows after them, more than others came", max(*beyond, 0), document=0)
    with claim.control("one more connection, in FIN-WAIT-2, that no application holds") as control:
        watch_orphan(pair.client, listen(server))
        number, there = counted()
        control.expect(mended, number, there)
        line = "netstat -ant | grep FIN_WAIT2 | wc -l"
        control.expect(line, shell.number(server, line), 1)
    with claim.control("none: the other side's end") as control:
        control.expect(mended, shell.number(pair.client, mended), 0)
    with claim.control("an IPv6 address of 39 characters: cut off without -W, and counted all the same") as control:
        address = "fd00:1111:2222:3333:4444:5555:6666:7777"
        server.add_address(address)
        leave(server, listen(server, address=address))
        for shown, line in ((False, "netstat -ant"), (True, "netstat -antW")):
            control.expect(f"the address in {line}", address in shell.printed(server, line), shown)
        number, there = counted()
        control.expect(mended, number, there)
    with claim.control("in four languages, all of which leave TIME_WAIT as it is") as control:
        for language in ("zh_CN", "de", "cs", "pt_BR"):
            number, there = counted(language=language)
            control.expect(language, number, there)
