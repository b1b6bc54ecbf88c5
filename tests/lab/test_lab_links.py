"""Cables that are like real ones: a delay, losses that come again, a rate and its queue; by netem and by our box."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import BadInput, HarnessError, Unsupported
from harness.lab import IPV4, Lab, behind_nat, box_program, lan, netem, pair
from harness.lab.box_program import Chance
from harness.lab.line import Line, seeds, share
from harness.observe import capture, info_of
from harness.traffic import RawPeer, answered, connect, echo, flood, hold, listen
from harness.traffic.datagrams import HEADERS, datagrams
from harness.traffic.hping3 import Hping3Flood
from harness.waiting import let_pass, until
from tests.processes import running

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.lab.line import By, LineWords

PROJECT = Path(__file__).parents[2]
# In a guest whose clock counts instructions nothing is late because others have work to do.
SIMULATED = "TCP_HARNESS_SIMULATED_TIME" in os.environ


@pytest.fixture(params=["box", "netem"])
def by(request: pytest.FixtureRequest) -> By:
    """Each of the two that do something to frames, where the kernel has it."""
    if request.param == "netem" and not netem.ability().exists:
        pytest.skip(netem.ability().why_not)
    chosen: By = request.param
    return chosen


@pytest.fixture
def by_with_seed(by: By) -> By:
    """Each that draws chance from a seed."""
    if by == "netem" and not netem.ability().takes_seed:
        pytest.skip("netem of this kernel takes no seed")
    return by


def arrivals(n: int, size: int = 100, **line: object) -> list[int]:
    """Which of n datagrams arrive, in their order, at the far end of a cable of a new lab."""
    with Lab() as lab:
        made = pair(lab, **line)  # type: ignore[arg-type]
        with datagrams(made.client, made.server, made.cable) as sent:
            return sent.send(n, size)


def test_a_round_trip_takes_the_delay_twice(lab: Lab, by: By) -> None:
    delayed = pair(lab, delay=0.05, by=by)
    with datagrams(delayed.client, delayed.server, delayed.cable) as sent:
        shortest = min(sent.round_trip() for _ in range(20))
    # A busy machine is late, and never early: bench/links.py has how late in real time.
    assert 0.1 <= shortest <= (0.102 if SIMULATED else 0.15)
    assert delayed.cable.by == by


def test_a_cable_that_was_told_nothing_is_a_plain_one(lab: Lab) -> None:
    plain = pair(lab)
    assert (plain.cable.hub, plain.cable.by, plain.cable.seed, plain.cable.counts()) == (None, None, None, {})
    listener = listen(plain.server, answer=echo)
    assert info_of(plain.client, answered(plain.client, listener)).rtt < 0.1


def test_a_line_is_not_used_before_it_does_something(lab: Lab) -> None:
    """Without ready() frames pass as on a plain cable: a test that forgets it would measure nothing."""
    client, server = lab.hosts("client", "server")
    cable = lab.link(client, server, delay=0.05, by="box")
    listener = listen(server)
    for use in (
        lambda: connect(client, listener),
        lambda: flood(server, client, listener, count=10),
        lambda: RawPeer(server, client),
        lambda: Hping3Flood(client, server.address(IPV4), listener.port, count=1),
        cable.counts,
        cable.waiting,
    ):
        with pytest.raises(BadInput, match=r"cable 1 has a line that does nothing yet: call lab\.ready\(\)"):
            use()
    lab.ready()
    attempts = connect(client, listener, wait=True)
    assert attempts.connected == 1
    assert cable.counts()["server"].passed >= 1
    later = lab.link(client, lab.host("other"), delay=0.05, by="box")
    with pytest.raises(BadInput, match="cable 2"):
        later.counts()
    lab.link(client, lab.host("plain"))
    with pytest.raises(BadInput, match="cable 2"):
        connect(client, listener)


def test_the_same_seed_loses_the_same_frames(by_with_seed: By) -> None:
    n, of_five = 2000, dict[str, list[int]]()
    for name, seed in (("first", 5), ("again", 5), ("another", 6)):
        came = arrivals(n, loss=1, seed=seed, by=by_with_seed)
        of_five[name] = [number for number in range(1, n + 1) if number not in set(came)]
    assert of_five["first"] == of_five["again"] == lost(5, 1.0, n)
    assert of_five["another"] == lost(6, 1.0, n) != of_five["first"]
    assert 8 <= len(of_five["first"]) <= 40


def lost(seed: int, percent: float, n: int) -> list[int]:
    """Those of n frames to the second host that chance loses."""
    chance = Chance(seeds(seed, 2)[1])
    return [number for number in range(1, n + 1) if share(percent) >= chance.draw()]


def test_a_seed_is_drawn_and_told(lab: Lab) -> None:
    made = pair(lab, loss=50)
    used = made.cable.used()
    assert used is not None
    assert (used.seed, used.drawn) == (made.cable.seed, True)
    with datagrams(made.client, made.server, made.cable) as sent:
        came = sent.send(100)
    assert isinstance(made.cable.seed, int)
    assert came == arrivals(100, loss=50, seed=made.cable.seed, by="box")


@pytest.mark.parametrize("loss", [0, 100])
def test_all_or_nothing_is_lost(by: By, loss: int) -> None:
    assert len(arrivals(50, loss=loss, delay=0.001, seed=1, by="box" if by == "box" else None)) == (0 if loss else 50)


def test_jitter_keeps_the_order_and_its_bounds(lab: Lab, by_with_seed: By) -> None:
    made = pair(lab, delay=0.03, jitter=0.02, seed=1, by=by_with_seed)
    with datagrams(made.client, made.server, made.cable) as sent:
        assert sent.send(200) == list(range(1, 201))
        taken = sorted(sent.round_trip() for _ in range(20))
    # Two ways of 10 to 50 ms each; not all of them as long as the others.
    assert 0.02 <= taken[0] <= taken[-1] - 0.01
    assert taken[len(taken) // 2] <= (0.102 if SIMULATED else 0.2)


def test_some_overtake_those_before_them(by_with_seed: By) -> None:
    # Overtaken are those that are under way: the sender must be done with all long before the first is there.
    came = arrivals(200, delay=0.5, reorder=10, seed=1, by=by_with_seed)
    assert sorted(came) == list(range(1, 201))
    overtook = [number for place, number in enumerate(came) if number > min(came[place:])]
    assert overtook == sorted(overtook)
    assert 5 <= len(overtook) <= 40
    assert came == arrivals(200, delay=0.5, reorder=10, seed=1, by="box")


def test_some_come_twice(by_with_seed: By) -> None:
    came = arrivals(200, delay=0.001, duplicate=10, seed=1, by=by_with_seed)
    twice = [number for number in range(1, 201) if came.count(number) == 2]
    assert set(came) == set(range(1, 201))
    assert 5 <= len(twice) <= 40
    assert came == arrivals(200, delay=0.001, duplicate=10, seed=1, by="box")


@pytest.mark.parametrize("delay", [0, 0.02])
def test_a_rate_is_kept(lab: Lab, by: By, delay: float) -> None:
    rate, n, size = 8e6, 400, 1200
    made = pair(lab, rate=rate, delay=delay, by=by)
    with (
        capture(made.client, snap=100) as left,
        capture(made.server, snap=100) as seen,
        datagrams(made.client, made.server, made.cable) as sent,
    ):
        assert sent.send(n, size) == list(range(1, n + 1))
        began = [packet.time_ns / 1e9 for packet in left.packets() if packet.direction == "out"]
        moments = [packet.time_ns / 1e9 for packet in seen.packets() if packet.direction == "in"]
    # On a busy machine the sender has pauses, in which the queue may run empty.
    frame, free = 8 * (size + HEADERS[lab.family]) / rate, began[0]
    for moment in began:
        free = max(free, moment) + frame
    late = made.cable.counts()["server"].late or 0.0
    least, most = 0.98 * (n - 1) * frame, 1.02 * (free - began[0] - frame)
    assert least - late <= moments[-1] - moments[0] <= most + late


def test_what_finds_no_room_in_the_queue_is_lost_whatever_is_under_way(lab: Lab, by: By) -> None:
    # A frame takes a third of a second: a sender that a busy machine stops for less finds the queue as it left it.
    made = pair(lab, rate=25_000, queue=10, delay=0.2, by=by)
    with datagrams(made.client, made.server, made.cable) as sent:
        assert sent.send(50, 1000) == list(range(1, 11))
        towards = made.cable.counts()["server"]
        assert (towards.passed, towards.lost, towards.overflowed) == (10, 0, 40)


def test_a_long_way_holds_more_than_the_queue(lab: Lab, by: By) -> None:
    # Ten frames take their turn each 10 ms while as many as fifty are on their way.
    made = pair(lab, rate=1_000_000, queue=10, delay=0.5, by=by)
    with datagrams(made.client, made.server, made.cable) as sent:
        for number in range(50):
            sent.here.send(number.to_bytes(4, "little").ljust(1250 - HEADERS[lab.family], b"."))
            let_pass(0.01)
        until(lambda: made.cable.counts()["server"].passed == 50, what="fifty datagrams")


def test_reports_of_multicast_groups_have_no_number(lab: Lab, by: By) -> None:
    made = pair(lab, delay=0.001, by=by)

    def reports() -> int:
        with made.server.open("/proc/thread-self/net/snmp6") as counted:
            return sum(int(line.split()[1]) for line in counted if "Icmp6OutMLDv2Reports" in line)

    until(lambda: reports() >= 2, what="two reports of the server's groups")
    towards = made.cable.counts()["client"]
    assert (towards.passed, towards.lost, towards.overflowed) == (0, 0, 0)


def test_two_hosts_of_a_switch_are_a_delay_apart(lab: Lab, by: By) -> None:
    net = lan(lab, 3, delay=0.02, by=by)
    for here, there in itertools.permutations(net.hosts, 2):
        with datagrams(here, there, net.cable) as sent:
            # Not a delay for each of the two ports, which would be 80 ms.
            assert 0.04 <= min(sent.round_trip() for _ in range(5)) <= (0.043 if SIMULATED else 0.079)
    assert [towards.passed for towards in net.cable.counts().values()] == [20, 20, 20]


def test_a_host_that_the_box_does_not_know_is_looked_for_at_all_ports(lab: Lab, by: By) -> None:
    net = lan(lab, 3, delay=0.001, by=by)
    first, second, third = net.hosts
    listener = listen(first, answer=echo)
    assert connect(third, listener, wait=True).ask() == 1
    peer = RawPeer(first, second)
    peer.connection(listener).handshake()
    assert third.run("cat", "/proc/net/dev").stdout


def test_a_gateway_takes_its_time(lab: Lab, by: By) -> None:
    client, gateway, server = lab.hosts("client", "gateway", "server")
    inside, outside = lab.link(client, gateway), lab.link(gateway, server)
    lab.gateway(gateway, inside=inside, outside=outside, delay=0.05, by=by)
    lab.ready()
    listener = listen(server, answer=echo)
    connection = answered(client, listener)
    assert 0.1 <= info_of(client, connection).rtt <= (0.2 if SIMULATED else 1.0)
    (accepted,) = listener.accepted
    assert accepted.getpeername()[0] == gateway.address(interface="eth1")
    assert info_of(gateway, answered(gateway, listen(client, answer=echo))).rtt < 0.1


def test_clients_behind_nat_may_be_far_from_the_server(lab: Lab) -> None:
    net = behind_nat(lab, 2, delay=0.05)
    assert (
        0.1
        <= info_of(net.clients[0], answered(net.clients[0], listen(net.server, answer=echo))).rtt
        <= (0.2 if SIMULATED else 1.0)
    )


def test_a_cable_that_is_in_use_is_not_laid_anew(lab: Lab) -> None:
    client, gateway, server = lab.hosts("client", "gateway", "server")
    inside, outside = lab.link(client, gateway), lab.link(gateway, server)
    lab.ready()
    with pytest.raises(BadInput, match=r"cable 2 is in use, or has a line already: give delay, loss and the rest"):
        lab.gateway(gateway, inside=inside, outside=outside, delay=0.05)


def test_what_was_held_arrives_when_it_is_let_go_and_not_a_delay_later(lab: Lab, by: By) -> None:
    made = pair(lab, delay=0.3, by=by)
    held = hold(made.server, "S", dport=9)
    RawPeer(made.server, made.client).connection(9).send("S")
    until(lambda: held.count == 1, what="the SYN")
    before = made.cable.counts()["server"].passed
    with capture(made.server) as seen:
        held.release()
        until(lambda: seen.segments(flags="S"), what="the SYN once more")
    assert made.cable.counts()["server"].passed == before


def test_the_box_ends_with_its_lab() -> None:
    with Lab() as lab:
        box = pair(lab, by="box").cable.hub._box  # type: ignore[union-attr]
        assert box is not None
        pid = box.pid
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()


WAVERING = """
import itertools, runpy, sys, time
real, ahead = time.time_ns, itertools.cycle([0, 0, 0, 0, 0, 3_000_000])
time.time_ns = lambda: real() + next(ahead)
sys.argv[0] = PROGRAM
runpy.run_path(PROGRAM, run_name="__main__")
"""


def test_clocks_that_never_agree_change_no_order(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A box that is stopped while it compares its clocks takes frames to have come earlier than those before them.
    wavering = tmp_path / "wavering.py"
    wavering.write_text(WAVERING.replace("PROGRAM", repr(box_program.__file__)))
    monkeypatch.setattr(box_program, "__file__", str(wavering))
    made = pair(lab, delay=0.02, by="box")
    with datagrams(made.client, made.server, made.cable) as sent:
        for _ in range(10):
            assert sent.send(200) == list(range(1, 201))


BUILT = """
import os, signal, sys
from harness.lab import Lab, pair
lab = Lab()
made = pair(lab, by="box")
print(made.cable.hub._box.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_box_ends_with_the_process_that_made_it() -> None:
    killed = subprocess.run(
        [sys.executable, "-c", BUILT], cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    until(lambda: not running(int(killed.stdout)), what="the end of the box")


def test_a_box_that_has_died_is_told_of() -> None:
    lab = Lab()
    made = pair(lab, delay=0.01, by="box")
    os.kill(made.cable.hub._box.pid, signal.SIGKILL)  # type: ignore[union-attr]
    with pytest.raises(HarnessError, match="the box that moves frames of a cable has ended with status -9: no word"):
        made.cable.counts()
    with pytest.raises(HarnessError, match="has ended with status -9"):
        lab.close()
    used = made.cable.used()
    assert used is not None
    assert (used.by, used.delay, used.towards) == ("box", 0.01, ())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"delay": -0.1}, "delay is a number from 0 to 100 seconds, not -0.1"),
        ({"delay": float("nan")}, "delay is a number from 0 to 100 seconds, not nan"),
        ({"delay": "50ms"}, "delay is a number from 0 to 100 seconds, not '50ms'"),
        ({"jitter": 0.1}, r"jitter is up to the delay \(0 s\), not 0.1 s: no frame arrives before it was sent"),
        ({"delay": 0.1, "jitter": 0.2}, r"jitter is up to the delay \(0.1 s\), not 0.2 s"),
        ({"loss": 101}, "loss is a number from 0 to 100 per cent, not 101"),
        ({"duplicate": -1}, "duplicate is a number from 0 to 100 per cent, not -1"),
        ({"reorder": 5}, "reorder needs a delay: a frame overtakes those that are still under way"),
        ({"rate": 0}, "rate is a number from 1000 to 3.4e[+]10 bits a second, not 0"),
        ({"queue": 10}, "queue needs a rate: without one no frame waits"),
        ({"rate": 1e6, "queue": 0}, "queue is a whole number from 1 to 100000 frames, not 0"),
        ({"loss": 1, "seed": -1}, "seed is a whole number from 0 to 18446744073709551615, not -1"),
        ({"by": "tc"}, 'by is "netem" or "box", not \'tc\''),
        ({"lost": 1}, "a cable has no 'lost', only delay, jitter, loss, duplicate, reorder, rate, queue, seed, by"),
        ({"mtu": 576}, r"mtu is a whole number from 1280 to 65535 bytes \(IPv6 needs 1280\), not 576"),
        ({"offloads": True, "delay": 0.1}, "offloads=True is for a cable that does nothing to frames"),
    ],
)
def test_a_cable_that_cannot_be_is_refused_in_one_line(lab: Lab, line: LineWords, said: str) -> None:
    a, b = lab.hosts("a", "b")
    with pytest.raises(BadInput, match=f"^{said}") as refused:
        lab.link(a, b, **line)
    assert "\n" not in str(refused.value)
    assert (a.interfaces, lab.cables) == ({}, [])


def test_netem_is_refused_where_it_cannot_do_what_is_wanted(lab: Lab) -> None:
    a, b = lab.hosts("a", "b")
    with pytest.raises(Unsupported, match='by="netem": '):
        lab.link(a, b, duplicate=1, rate=1e6, by="netem")
    line = Line(duplicate=1, rate=1e6)
    assert netem.ability().lacks(line)
    assert lab.link(a, b, duplicate=1, rate=1e6).by == "box"


BOTH = ("198.51.100.7/24", "2001:db8:7::7/64"), ("198.51.100.9/24", "2001:db8:7::9/64")


def test_addresses_are_the_callers(lab: Lab) -> None:
    made = pair(lab, addresses=BOTH)
    four, six = BOTH[1]
    assert made.server.ip == (four if lab.family == socket.AF_INET else six).partition("/")[0]
    listener = listen(made.server, answer=echo)
    connection = answered(made.client, listener)
    assert connection.getsockname()[0] == made.client.ip
    RawPeer(made.server, made.client).connection(listener).handshake()
    shown = made.server.run("ip", "-o", "address", "show", "dev", "eth0").stdout
    assert (four in shown, six in shown) == (True, True)


def test_a_family_without_addresses_has_the_cables_own(lab: Lab) -> None:
    made = pair(lab, addresses=("192.0.2.1/31", "192.0.2.0/31"))
    assert made.server.address(socket.AF_INET) == "192.0.2.0"
    assert made.server.address(socket.AF_INET6) == "fd00:1::2"
    if lab.family == socket.AF_INET:
        with pytest.raises(BadInput, match=r"cable 1 has no address that nobody owns: 192.0.2.0/31 has too few"):
            RawPeer(made.server, made.client)


def test_a_gateways_outside_keeps_its_addresses_when_it_is_laid_anew(lab: Lab) -> None:
    client, gateway, server = lab.hosts("client", "gateway", "server")
    inside, outside = lab.link(client, gateway), lab.link(gateway, server, addresses=BOTH, mtu=1400)
    lab.gateway(gateway, inside=inside, outside=outside, delay=0.01)
    lab.ready()
    assert server.ip == outside.members[1][0].ip == BOTH[1][lab.family == socket.AF_INET6].partition("/")[0]
    with capture(server) as seen:
        answered(client, listen(server, answer=echo))
        assert {segment.mss for segment in seen.segments(flags="SA")} == {1400 - (60 if lab.family == 10 else 40)}


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        (("192.0.2.1", "192.0.2.2"), "an address has a prefix, as in 192.0.2.1/24 or 2001:db8::1/64; '192.0.2.1' is"),
        (("192.0.2.1/24", "many"), "an address has a prefix, .*; 'many' is none"),
        (("192.0.2.1/24",), "addresses has an entry for each of the 2 hosts"),
        ("192.0.2.1/24", "addresses has an entry for each of the 2 hosts"),
        (("192.0.2.1/24", "192.0.3.1/24"), "addresses has 192.0.2.1/24 and 192.0.3.1/24, which are not of one network"),
        (("192.0.2.1/24", "192.0.2.1/24"), "addresses gives two hosts the same one"),
        (("192.0.2.1/24", "2001:db8::1/64"), "addresses gives .* to a host, and another host none of its family"),
        (("192.0.2.0/24", "192.0.2.1/24"), "192.0.2.0/24 is no address that a host can have"),
        (("224.0.0.1/24", "224.0.0.2/24"), "224.0.0.1/24 is no address that a host can have"),
        ((("192.0.2.1/24", "192.0.2.3/24"), "192.0.2.2/24"), "a host has one address of a family on a cable"),
        ((None, None), "an address has a prefix, .*; None is none"),
        (5, "addresses has an entry for each of the 2 hosts, not 5"),
    ],
)
def test_addresses_that_cannot_be(lab: Lab, addresses: Any, said: str) -> None:
    a, b = lab.hosts("a", "b")
    with pytest.raises(BadInput, match=f"^{said}") as refused:
        lab.link(a, b, addresses=addresses)
    assert "\n" not in str(refused.value)
    assert (a.interfaces, lab.cables) == ({}, [])


@pytest.mark.parametrize("name", ["", " ", "a/b", "..", "x" * 300, "a\nb", 5])
def test_names_that_no_host_has(lab: Lab, name: Any) -> None:
    with pytest.raises(BadInput) as refused:
        lab.host(name)
    assert str(refused.value) == f"the name of a host is one of a file, of up to 60 printable characters, not {name!r}"
    assert lab.all_hosts == {}


def test_hosts_that_are_none(lab: Lab) -> None:
    """Before something is made of them that the lab could not hand over."""
    a = lab.host("a")
    with Lab() as other:
        stranger = other.host("c")
        refused: list[tuple[Callable[[], object], str]] = [
            (lambda: lab.link(a, 5), "5 is no host of this lab"),  # type: ignore[arg-type]
            (lambda: lab.link(a, stranger), "'c' is no host of this lab"),
        ]
        for call, said in refused:
            with pytest.raises(BadInput, match=f"^{said}$"):
                call()
    assert lab.cables == []
    assert lab.switch().members == []
    lab.ready()
